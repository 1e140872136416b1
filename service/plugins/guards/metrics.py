"""Series of guards."""

from prometheus_client import CollectorRegistry

from service.telemetry.series import LATENCY, SeriesFactory


class GuardMetrics:
    """Counts what guards found in texts, and times their reads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Requests, and pieces of answers, that a guard read, by what became of them."
        self._checks = make.counter("guard_checks_total", text, "guard", "side", "verdict")
        text = "Time that a guard took for a request or piece of answer, waiting included."
        self._seconds = make.seconds("guard_check", text, LATENCY, "guard")
        text = "Time that text of an answer was held until its guards had read it."
        self._held = make.seconds("guard_held", text, LATENCY)

    def checked(self, side: str, guard: str, verdict: str) -> None:
        """Count what a guard read, or could not read."""
        self._checks[guard, side, verdict].inc()

    def held(self, seconds: float) -> None:
        """Record how long a piece of an answer waited for its guards."""
        self._held[()].observe(seconds)

    def took(self, guard: str, seconds: float) -> None:
        """Record the time of one request's reads."""
        self._seconds[guard,].observe(seconds)
