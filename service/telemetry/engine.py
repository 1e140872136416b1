"""Prometheus series of the engines as the watchdogs see them."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Gauge

from service.telemetry.series import SeriesFactory


class EngineMetrics:
    """Series of the engines' progress."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Seconds since the engine's last step, while something runs in it; else 0."
        self._age = make.gauge("engine_progress_age_seconds", text, "engine")
        text = "1 while the watchdog finds the engine stalled."
        self._stalled = make.gauge("engine_stalled", text, "engine")

    def of(self, engine: str) -> "EngineProgress":
        """The series of one engine."""
        return EngineProgress(self._age.labels(engine), self._stalled.labels(engine))


class EngineProgress:
    """Shows an engine's progress, computed at each scrape, so that a hanging loop is seen."""

    def __init__(self, age: Gauge, stalled: Gauge) -> None:
        self._age = age
        self._stalled = stalled
        self._running = 0
        self._busy_since = 0.0

    def gate_changed(self, in_flight: int) -> None:
        """Set the number of sequences in the engine."""
        if in_flight and not self._running:
            self._busy_since = time.monotonic()
        self._running = in_flight

    def follow(self, last_step: Callable[[], float], stalled: Callable[[], bool]) -> None:
        """Show this engine from now on; its steps are in seconds of `time.monotonic`."""

        def age() -> float:
            if not self._running:
                return 0.0
            return max(0.0, time.monotonic() - max(last_step(), self._busy_since))

        self._age.set_function(age)
        self._stalled.set_function(lambda: float(stalled()))
