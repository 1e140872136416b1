"""The watch over a running request."""

import asyncio
from typing import Any

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from service.api.body import ClientGone
from service.api.exchange import Exchange
from service.api.hangup import Hangup
from service.api.watch import run_watched
from service.context import internal_context
from service.feedback.answer_ids import AnswerIds


async def nothing(_: Message) -> None: ...


async def silence() -> Message:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits so long")


def exchange(receive: Receive = silence, **scope: Any) -> Exchange:
    made = {"type": "http", "path": "/", "method": "POST", **scope}
    context, ids = internal_context("test", 60.0), AnswerIds(b"k" * 32, b"mark")
    return Exchange(made, Headers(), receive, nothing, context, ids)


class App:
    """An app that waits; `cancelled` once it was stopped."""

    def __init__(self) -> None:
        self.runs = asyncio.Event()
        self.cancelled = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.runs.set()
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            self.cancelled = True
            raise


async def test_a_request_ends_when_its_connection_does() -> None:
    app, hangup = App(), Hangup(lambda: None)
    running = asyncio.create_task(run_watched(app, exchange(hangup=hangup), b""))
    await app.runs.wait()
    hangup.tell()
    with pytest.raises(ClientGone):
        await running
    assert app.cancelled


async def test_a_request_whose_client_has_gone_already_ends_at_its_first_wait() -> None:
    app, hangup = App(), Hangup(lambda: None)
    hangup.tell()
    with pytest.raises(ClientGone):
        await run_watched(app, exchange(hangup=hangup), b"")
    assert app.cancelled


async def test_a_request_that_waits_for_nothing_is_not_cancelled_after_its_end() -> None:
    hangup = Hangup(lambda: None)
    hangup.tell()

    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    await run_watched(app, exchange(hangup=hangup), b"")
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # a stray cancel would be raised here
    hangup.tell()
    await asyncio.sleep(0)


async def test_a_server_that_tells_nothing_is_listened_to() -> None:
    gone = asyncio.Event()

    async def receive() -> Message:
        await gone.wait()
        return {"type": "http.disconnect"}

    app = App()
    running = asyncio.create_task(run_watched(app, exchange(receive), b""))
    await app.runs.wait()
    gone.set()
    with pytest.raises(ClientGone):
        await running
    assert app.cancelled


async def test_the_connection_is_read_while_a_request_runs() -> None:
    app, reads = App(), []
    hangup = Hangup(lambda: reads.append(True))
    running = asyncio.create_task(run_watched(app, exchange(hangup=hangup), b""))
    await app.runs.wait()
    assert reads
    hangup.tell()
    with pytest.raises(ClientGone):
        await running
