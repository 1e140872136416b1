"""Series of guards."""

from prometheus_client import CollectorRegistry

from service.telemetry.series import LATENCY, SeriesFactory


class GuardMetrics:
    """Counts what guards found in texts, and times their reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Requests that a guard read, by what became of them."
        self._checks = make.counter("guard_checks_total", text, "guard", "verdict")
        text = "Time that a guard took to read all texts of a request, waiting included."
        self._seconds = make.seconds("guard_check", text, LATENCY, "guard")

    def checked(self, guard: str, verdict: str) -> None:
        """Count a request that a guard read, or could not read."""
        self._checks[guard, verdict].inc()

    def took(self, guard: str, seconds: float) -> None:
        """Record the time of one request's reads."""
        self._seconds[guard,].observe(seconds)
