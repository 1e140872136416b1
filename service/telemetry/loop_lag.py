"""Prometheus series of the event loop's delay."""

import asyncio
import time

from prometheus_client import CollectorRegistry

from service.telemetry.series import Buckets, SeriesFactory

_LOOK_SECONDS = 0.05
_LAG: Buckets = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class LoopLag:
    """Measures the lag of the loop that it runs on, and the part of it that the process caused.

    Histograms, not gauges of the maximum: they count every stall between two scrapes by its
    length, for any number of scrapers. It measures twenty times a second, in one callback of about
    ten microseconds. The process's part is at most the CPU time that all its threads took since the
    last measurement: a process without a processor stands still too, but takes no CPU time.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        series = SeriesFactory(registry)
        text = "Delay of the event loop's callbacks, in which no request is answered."
        self._lag = series.tally("event_loop_lag", text, _LAG)[()]
        text = "Part of the delay that the process's own work can have caused, at most."
        self._own = series.tally("event_loop_own_lag", text, _LAG)[()]
        self._timer: asyncio.TimerHandle | None = None

    async def run(self) -> None:
        """Measure for ever."""
        loop = asyncio.get_running_loop()
        self._wait(loop, time.process_time())
        try:
            await loop.create_future()
        finally:
            if self._timer is not None:
                self._timer.cancel()

    def _wait(self, loop: asyncio.AbstractEventLoop, computed: float) -> None:
        due = time.monotonic() + _LOOK_SECONDS
        self._timer = loop.call_later(_LOOK_SECONDS, self._look, loop, due, computed)

    def _look(self, loop: asyncio.AbstractEventLoop, due: float, before: float) -> None:
        lag, computed = max(0.0, time.monotonic() - due), time.process_time()
        self._lag.add(lag)
        self._own.add(min(lag, computed - before))
        self._wait(loop, computed)
