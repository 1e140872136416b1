"""Watch over a running request, which ends with its client and soon after its deadline."""

import asyncio
import time

from starlette.types import ASGIApp, Message, Receive

from service.api.body import ClientGone, replay
from service.api.exchange import Exchange
from service.context import RequestContext
from service.errors import DeadlineExceeded

_UNREAD_SECONDS = 5.0
_BLOCKED_SECONDS = 20.0
_UNANSWERED_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 5.0


async def run_watched(app: ASGIApp, exchange: Exchange, body: bytes) -> None:
    """Run the app on a body that was read, until the client goes away or its time is over.

    Raises ClientGone for a client that has gone, takes nothing of its answer for many seconds, or
    has not read all of it some seconds after the deadline; DeadlineExceeded if there is no answer.
    """
    watch = _Watch(exchange)

    async def send(message: Message) -> None:
        # vLLM's handlers answer the cancel of an ended request with an error body of their own.
        if watch.end is None:
            await exchange.send(message)

    watch.begin()
    try:
        await app(exchange.scope, replay(body), send)
    except asyncio.CancelledError:
        if watch.end is None:
            raise
    finally:
        watch.stop()
    if watch.end is not None:
        watch.task.uncancel()
        raise watch.end


class _Watch:
    """Cancels the current task when its request must end, and keeps the reason as `end`.

    A timer looks at the deadline. The request's `Peer` tells when its client has gone; where nobody
    tells that, a task waits for the message `http.disconnect`.
    """

    def __init__(self, exchange: Exchange) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.end: Exception | None = None
        self._watching = True
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._peer = exchange.peer
        self._listener: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._peer.read_on is None:
            self._listener = self._loop.create_task(self._listen(self._exchange.receive))
        elif self._peer.gone:
            self._loop.call_soon(self._gone)
        else:
            self._peer.watch(self._gone)
        self._look()

    def stop(self) -> None:
        self._watching = False
        if self._timer is not None:
            self._timer.cancel()
        self._peer.watch(None)
        if self._listener is not None:
            self._listener.cancel()

    async def _listen(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._gone()

    def _look(self) -> None:
        if self._peer.read_on is not None:
            self._peer.read_on()  # a request pipelined behind this one stops the reading
        if (left := _seconds_left(self._exchange)) > 0:
            # The route may move the deadline.
            self._timer = self._loop.call_later(min(left, _LOOK_AGAIN_SECONDS), self._look)
        else:
            started = self._exchange.started
            self._finish(ClientGone() if started else _late(self._exchange.context))

    def _gone(self) -> None:
        self._finish(ClientGone())

    def _finish(self, end: Exception) -> None:
        if self._watching and not self._exchange.complete:
            self.stop()
            self.end = end
            self.task.cancel()


def _seconds_left(exchange: Exchange) -> float:
    """Seconds until the request is ended here; at the gate requests end at their deadline."""
    grace = _UNREAD_SECONDS if exchange.started else _UNANSWERED_SECONDS
    end = exchange.context.deadline + grace
    if exchange.blocked_since is not None:
        end = min(end, exchange.blocked_since + _BLOCKED_SECONDS)
    return end - time.monotonic()


def _late(context: RequestContext) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The deadline passed, and {context.elapsed():.1f} s after the request arrived its answer"
        " had not begun."
    )
