"""Expressions of the dashboards in a form that Prometheus can run."""


def bound(expr: str, *, job: str = ".*", window: str = "5m") -> str:
    """The expression with Grafana's variables replaced."""
    return expr.replace("$job", job).replace("$__rate_interval", window)
