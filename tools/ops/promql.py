"""Expressions of the dashboards as Prometheus itself can run them."""


def bound(expr: str, *, job: str = ".*", window: str = "5m") -> str:
    """The expression with Grafana's variables replaced."""
    return expr.replace("$job", job).replace("$__rate_interval", window)
