"""Prometheus series of how late the event loop runs what is due."""

import asyncio
import time

from prometheus_client import CollectorRegistry

from service.telemetry.series import Buckets, SeriesFactory

_LOOK_SECONDS = 0.025
_LAG: Buckets = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class LoopLag:
    """Measures the lag of the loop that it runs on, forty times a second.

    A histogram and no gauge of the worst: it counts every stall between two scrapes, by its length,
    whoever scrapes and however often. A look costs some fifteen microseconds.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Time that the event loop was late to run what was due; nobody is answered in it."
        self._lag = SeriesFactory(registry).seconds("event_loop_lag", text, _LAG)[()]

    async def run(self) -> None:
        """Measure for ever."""
        while True:
            due = time.monotonic() + _LOOK_SECONDS
            await asyncio.sleep(_LOOK_SECONDS)
            self._lag.observe(max(0.0, time.monotonic() - due))
