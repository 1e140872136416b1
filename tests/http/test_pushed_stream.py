"""Events that are written where they are made, to clients that read them and that do not."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from starlette.types import Message

from service.context import enter_context, internal_context
from service.engine.texts import Writer
from service.errors import DeadlineExceeded
from service.http.exchange import KEY, Peer, PushedStream


class Connection:
    """A connection that accepts bytes while it is open."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.open = asyncio.Event()
        self.open.set()

    async def send(self, message: Message) -> None:
        await self.open.wait()
        self.sent.append(message.get("body", b"start"))

    async def answer(self, write_to: Callable[[Writer], Awaitable[None]]) -> None:
        enter_context(internal_context("test", 600.0))
        peer = Peer(self.sent.append, blocked=lambda: not self.open.is_set())
        scope = {"type": "http", "path": "/v1/generate", KEY: peer}
        await PushedStream(write_to)(scope, _nothing, self.send)


async def _nothing() -> Message:
    raise AssertionError("nothing is received")


async def test_an_open_connection_is_written_to_at_once() -> None:
    connection = Connection()

    async def write_to(writer: Writer) -> None:
        writer.write(b"one")
        assert connection.sent == [b"start", b"one"]
        writer.write(b"two")
        assert not writer.busy
        await writer.flush()

    await connection.answer(write_to)
    assert connection.sent == [b"start", b"one", b"two", b""]


async def test_what_comes_while_the_client_takes_nothing_is_asked_for_once_it_does() -> None:
    connection = Connection()

    async def write_to(writer: Writer) -> None:
        connection.open.clear()
        writer.on_free = lambda: writer.write(b"two") if len(connection.sent) == 2 else None
        writer.write(b"one")
        assert writer.busy
        await asyncio.sleep(0)
        assert connection.sent == []
        connection.open.set()
        await writer.flush()

    await connection.answer(write_to)
    assert connection.sent == [b"start", b"one", b"two", b""]


async def test_an_error_before_the_first_event_is_raised_and_nothing_is_sent() -> None:
    connection = Connection()

    async def write_to(writer: Writer) -> None:
        raise DeadlineExceeded("too late")

    with pytest.raises(DeadlineExceeded):
        await connection.answer(write_to)
    assert connection.sent == []


@pytest.mark.parametrize("held", [False, True], ids=["at once", "of what was held"])
async def test_an_error_after_the_first_event_is_the_last_one(held: bool) -> None:
    connection = Connection()

    def fail() -> None:
        raise DeadlineExceeded("too late")

    async def write_to(writer: Writer) -> None:
        if held:
            connection.open.clear()
            writer.on_free = fail
        writer.write(b"one")
        await asyncio.sleep(0)
        connection.open.set()
        await writer.flush()
        fail()

    with pytest.raises(DeadlineExceeded):
        await connection.answer(write_to)
    assert connection.sent[:2] == [b"start", b"one"]
    assert b"too late" in connection.sent[2]
    assert connection.sent[3:] == [b""]
