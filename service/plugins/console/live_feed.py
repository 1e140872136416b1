"""Feed of the live view: one event each interval, shared by all viewers."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

from service.errors import ServiceError, TooManyConnections
from service.http.exchange import DONE, event
from service.plugins.console.history import INTERVAL_S, History
from service.runtime.status import Status
from service.settings.telemetry import SloSettings

MOST_VIEWERS = 32
"""Half of the connections that the admin port takes: the others are for probes and scrapes."""
_PROGRESS_SECONDS = 2.0


async def _nothing() -> dict[str, Any]:
    return {}


class LiveFeed:
    """The history and the running releases and batches, for up to `MOST_VIEWERS` viewers.

    The history grows while `follow` runs. In each interval with a viewer, releases and batches are
    read once, and one event is made for all viewers.
    """

    def __init__(self, history: History, status: Status, slo: SloSettings) -> None:
        self._history = history
        self._status = status
        self._about = {
            "interval_s": INTERVAL_S,
            "objectives": {"ttft_ms": slo.ttft_ms, "tpot_ms": slo.tpot_ms},
        }
        self.overview: Callable[[], Coroutine[Any, Any, dict[str, Any]]] = _nothing
        """Tells of the plugins, on the loop that serves."""
        self._viewers = 0
        self._ended = False
        self._made: asyncio.Task[bytes] | None = None
        self._next = asyncio.Event()

    async def follow(self) -> None:
        """Add a point to the history every interval; never returns."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            self._history.take()
            self._made = None
            self._wake()

    def events(self) -> AsyncGenerator[bytes, None]:
        """The present event, then each later one until the end; raises TooManyConnections."""
        if self._viewers >= MOST_VIEWERS:
            message = f"The live view has {MOST_VIEWERS} viewers, its limit."
            raise TooManyConnections(message, retry_after=INTERVAL_S)
        return self._events()

    def end(self) -> None:
        """End the streams at shutdown, because the server would wait for them."""
        self._ended = True
        self._wake()

    async def _events(self) -> AsyncGenerator[bytes, None]:
        self._viewers += 1
        try:
            while not self._ended:
                following = self._next
                yield await self._present()
                await following.wait()
            yield DONE
        finally:
            self._viewers -= 1

    def _wake(self) -> None:
        self._next.set()
        self._next = asyncio.Event()

    async def _present(self) -> bytes:
        """The event of this interval, made when the first viewer asks."""
        if self._made is None:
            self._made = asyncio.create_task(self._make())
        return await asyncio.shield(self._made)

    async def _make(self) -> bytes:
        under_way = await self._under_way()
        status = self._status
        about = {"status": str(status), "details": status.details, **self._about}
        return event(about | self._history.shown() | under_way)

    async def _under_way(self) -> dict[str, Any]:
        """The plugins' overviews; None for each if they do not answer in time."""
        try:
            async with asyncio.timeout(_PROGRESS_SECONDS):
                return await self._status.on_loop(self.overview())
        except (TimeoutError, ServiceError):
            return {"releases": None, "batches": None}
