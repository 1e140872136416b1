"""Server-sent events that are written where they are made, without a task for each."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from starlette.types import Message, Receive, Scope, Send

from service.api.peer import Peer, peer_of
from service.api.sse import EventResponse
from service.engine.writer import Writer


class PushedStream(EventResponse):
    """An answer whose events `write_to` writes; an error before the first gets its own status.

    `made` tells how many events there were, for APIs that number them.
    """

    def __init__(
        self, write_to: Callable[[Writer], Awaitable[None]], made: Callable[[], int] = int
    ) -> None:
        super().__init__()
        self._write_to = write_to
        self._made = made

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = _AnswerWriter(self.start, peer_of(scope), send)
        failure: Exception | None = None
        try:
            await self._write_to(writer)
        except Exception as error:
            if not writer.started:
                raise
            failure = error
        finally:
            writer.stop()
        await self.end(scope, send, failure, self._made())


class _AnswerWriter:
    """Writes parts to the connection while it takes them, else in a task that waits."""

    def __init__(self, start: Message, peer: Peer, send: Send) -> None:
        self.on_free: Callable[[], None] = _nothing
        self.started = False
        self._start = start
        self._send = send
        self._write, self._blocked, self._hold = peer.write, peer.blocked, peer.hold
        self._waiting: asyncio.Task[None] | None = None
        self._pending: list[bytes] = []
        self._failure: Exception | None = None

    @property
    def busy(self) -> bool:
        return self._waiting is not None

    def write(self, part: bytes) -> None:
        if self._waiting is not None:
            self._pending.append(part)
            return
        if self._blocked():
            call = self._write_later(part)
            self._waiting = asyncio.get_running_loop().create_task(call)
            return
        if not self.started:
            self.started = True
            self._hold()
            _run_at_once(self._send(self._start))
        self._write(part)

    async def flush(self) -> None:
        while self._waiting is not None:
            await self._waiting
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """Write no more."""
        self.on_free = _nothing
        if self._waiting is not None:
            self._waiting.cancel()

    async def _write_later(self, part: bytes) -> None:
        if not self.started:
            self.started = True
            await self._send(self._start)
        while part:
            await self._send({"type": "http.response.body", "body": part, "more_body": True})
            part = b"".join(self._pending)
            self._pending.clear()
        self._waiting = None
        try:
            self.on_free()
        except Exception as error:  # of writing the next part; `flush` raises it
            self._failure = error


def _run_at_once(call: Awaitable[None]) -> None:
    """Run a call that does not suspend, without a task; RuntimeError if it does."""
    assert isinstance(call, Coroutine)
    try:
        call.send(None)
    except StopIteration:
        return
    call.close()
    raise RuntimeError("a part was to be written to a connection that takes nothing")


def _nothing() -> None: ...
