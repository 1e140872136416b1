"""The watch over a running request."""

import asyncio

import pytest
from starlette.datastructures import Headers
from starlette.types import Message, Receive, Scope, Send

from service.context import internal_context
from service.http.exchange import KEY, HttpExchange, Peer
from service.http.json_routes import ClientGone
from service.http.lifecycle import run_watched
from service.runtime.parts import Plugins


async def nothing(_: Message) -> None: ...


async def silence() -> Message:
    await asyncio.sleep(60)
    raise AssertionError("nobody waits so long")


def exchange(peer: Peer) -> HttpExchange:
    made = {"type": "http", "path": "/", "method": "POST", KEY: peer}
    context = internal_context("test", 60.0)
    return HttpExchange(made, Headers(), silence, nothing, context, Plugins())


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
    app, peer = App(), Peer()
    running = asyncio.create_task(run_watched(app, exchange(peer), b""))
    await app.runs.wait()
    peer.leave()
    with pytest.raises(ClientGone):
        await running
    assert app.cancelled


async def test_a_request_whose_client_has_gone_already_ends_at_its_first_wait() -> None:
    app, peer = App(), Peer()
    peer.leave()
    with pytest.raises(ClientGone):
        await run_watched(app, exchange(peer), b"")
    assert app.cancelled


async def test_a_request_that_waits_for_nothing_is_not_cancelled_after_its_end() -> None:
    peer = Peer()
    peer.leave()

    async def app(scope: Scope, receive: Receive, send: Send) -> None: ...

    await run_watched(app, exchange(peer), b"")
    await asyncio.sleep(0)
    await asyncio.sleep(0)  # a stray cancel would be raised here
    peer.leave()
    await asyncio.sleep(0)


async def test_the_connection_is_read_while_a_request_runs() -> None:
    app, reads = App(), []
    peer = Peer(read_on=lambda: reads.append(True))
    running = asyncio.create_task(run_watched(app, exchange(peer), b""))
    await app.runs.wait()
    assert reads
    peer.leave()
    with pytest.raises(ClientGone):
        await running
