"""Watch over a running request, which ends with its client and soon after its deadline."""

import asyncio
import time
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive

from service.api.body import ClientGone
from service.api.exchange import Exchange
from service.context import RequestContext
from service.errors import DeadlineExceeded

_UNREAD_SECONDS = 5.0
_BLOCKED_SECONDS = 20.0
_UNANSWERED_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 5.0


async def run_watched(app: ASGIApp, exchange: Exchange, body: bytes) -> None:
    """Run the app on a body that was read, until the client goes away or its time is over.

    Raises ClientGone, also for a client that takes nothing of its answer for many seconds, or has
    not read it some seconds after the deadline; DeadlineExceeded where there is no answer yet.
    """
    task = asyncio.current_task()
    assert task is not None
    end: Exception | None = None

    async def watch() -> None:
        nonlocal end
        present = True
        while present and (left := _seconds_left(exchange)) > 0:
            with suppress(TimeoutError):
                # The route may move the deadline.
                async with asyncio.timeout(min(left, _LOOK_AGAIN_SECONDS)):
                    present = (await exchange.receive())["type"] != "http.disconnect"
        if not exchange.complete:
            late = present and not exchange.started
            end = _late(exchange.context) if late else ClientGone()
            task.cancel()

    async def send(message: Message) -> None:
        # Once the request has ended, what comes is vLLM's error body for our own cancel.
        if end is None:
            await exchange.send(message)

    watcher = asyncio.create_task(watch())
    try:
        await app(exchange.scope, replay(body), send)
    except asyncio.CancelledError:
        if end is None:
            raise
    finally:
        watcher.cancel()
    if end is not None:
        task.uncancel()
        raise end


def replay(body: bytes) -> Receive:
    """Receives a body that was read, then nothing more."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        if (message := next(messages, None)) is not None:
            return message
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a request's body is received once")

    return receive


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
