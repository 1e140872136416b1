"""Prometheus series of the event loop's delay."""

import asyncio
import time

from prometheus_client import CollectorRegistry

from service.telemetry.series import Buckets, SeriesFactory

_LOOK_SECONDS = 0.05
_LAG: Buckets = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class LoopLag:
    """Measures the lag of the loop that it runs on, twenty times a second.

    A histogram, not a gauge of the maximum: it counts every stall between two scrapes by its
    length, for any number of scrapers. A measurement is one callback of about ten microseconds.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        text = "Delay of the event loop's callbacks, in which no request is answered."
        self._lag = SeriesFactory(registry).seconds("event_loop_lag", text, _LAG)[()]
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Measure for ever."""
        loop = asyncio.get_running_loop()
        self._wait(loop)
        try:
            await loop.create_future()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        due = time.monotonic() + _LOOK_SECONDS
        self._timer = loop.call_later(_LOOK_SECONDS, self._look, loop, due)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._lag.observe(max(0.0, time.monotonic() - due))
        self._wait(loop)
