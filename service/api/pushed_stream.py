"""Server-sent events that are written where these are made, without a task that waits for each."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

from starlette.types import Message, Receive, Scope, Send

from service.api.sse import EventResponse
from service.engine.protocol import Writer


class PushedStream(EventResponse):
    """An answer whose events `write_to` writes; an error before the first gets its own status."""

    def __init__(self, write_to: Callable[[Writer], Awaitable[None]]) -> None:
        super().__init__()
        self._write_to = write_to

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = _AnswerWriter(self.start, send, scope.get("blocked", _always))
        failure: Exception | None = None
        try:
            await self._write_to(writer)
        except Exception as error:
            if not writer.started:
                raise
            failure = error
        finally:
            writer.stop()
        await self.end(send, failure)


class _AnswerWriter:
    """Writes parts at once while the connection takes them, else in a task that waits for it."""

    def __init__(self, start: Message, send: Send, blocked: Callable[[], bool]) -> None:
        self.on_free: Callable[[], None] = _nothing
        self.started = False
        self._start = start
        self._send = send
        self._blocked = blocked
        self._waiting: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    @property
    def busy(self) -> bool:
        return self._waiting is not None

    def write(self, part: bytes) -> None:
        messages = [] if self.started else [self._start]
        self.started = True
        messages.append({"type": "http.response.body", "body": part, "more_body": True})
        if self._blocked():
            self._waiting = asyncio.get_running_loop().create_task(self._write_later(messages))
            return
        for message in messages:
            _run_at_once(self._send(message))

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

    async def _write_later(self, messages: list[Message]) -> None:
        for message in messages:
            await self._send(message)
        self._waiting = None
        try:
            self.on_free()
        except Exception as error:  # of the next part: told where the whole is waited for
            self._failure = error


def _run_at_once(call: Awaitable[None]) -> None:
    """Run a call that has nothing to wait for."""
    assert isinstance(call, Coroutine)
    try:
        call.send(None)
    except StopIteration:
        return
    call.close()
    raise RuntimeError("a part was to be written to a connection that takes nothing")


def _always() -> bool:
    return True


def _nothing() -> None: ...
