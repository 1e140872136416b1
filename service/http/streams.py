"""Answers that stream: server-sent events and lines, as they are made or as they come."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from functools import cache
from typing import Any, Protocol, TypeVar

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.common.error_forms import error_form
from service.context import current_context
from service.engine.texts import Writer
from service.errors import ServiceError
from service.http.bodies import Listed, PageBody
from service.http.exchange import Peer, peer_of

_log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"

STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {}}}}
"""OpenAPI description of answers that may stream."""

DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    """One event whose data is the value's JSON."""
    return b"data: " + to_json(value) + b"\n\n"


def named_event(name: str, value: object) -> bytes:
    """One event with a name."""
    return b"event: " + name.encode() + b"\n" + event(value)


class NamedEvents:
    """Writes events that are named by their `type`; the events of one step are written together."""

    def __init__(self) -> None:
        self._events: list[bytes] = []

    def _add(self, name: str, /, **fields: Any) -> None:
        self._events.append(named_event(name, {"type": name, **fields}))

    def _write_to(self, writer: Writer) -> None:
        if self._events:
            writer.write(b"".join(self._events))
            self._events.clear()


@cache
def _head(media_type: str) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a stream, which are the same for all of a kind."""
    told = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    response = Response(headers=told, media_type=media_type)
    del response.headers["content-length"]
    return tuple(response.raw_headers)


class EventResponse(Response):
    """Status, headers and end of an answer that streams.

    An error after the first event is sent as the last one, in the form of the API, without
    `[DONE]`, and raised once the answer is complete.
    """

    media_type = MEDIA_TYPE

    def __init__(self) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = list(_head(self.media_type))
        self.start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }

    async def end(self, scope: Scope, send: Send, error: Exception | None, sent: int = 0) -> None:
        """Complete the answer; an error at its end, after so many events, is sent and raised."""
        failure = error if isinstance(error, ServiceError | None) else ServiceError()
        if failure is not error:
            _log.error("a stream failed", exc_info=error)
        if failure is not None:
            request_id = current_context().request_id
            name, value = error_form(scope["path"]).event(failure, request_id, sent)
            await _send_part(send, self.rendered(name, value))
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if failure is not None:
            raise failure

    def rendered(self, name: str | None, value: object) -> bytes:
        """A part of the answer: the value, as an event of this name if it has one."""
        return event(value) if name is None else named_event(name, value)


class PushedStream(EventResponse):
    """An answer whose events `write_to` writes; an error before the first gets its own status.

    `made` returns the number of events so far, for APIs that number them.
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


NDJSON_MEDIA_TYPE = "application/x-ndjson"


def line(value: object) -> bytes:
    """One line that holds the value's JSON."""
    return to_json(value) + b"\n"


class LineStream(EventResponse):
    """Sends lines as they come and closes their source when the answer ends in any way."""

    media_type = NDJSON_MEDIA_TYPE

    def __init__(self, first: bytes, lines: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._first = first
        self._lines = lines

    def rendered(self, name: str | None, value: object) -> bytes:
        """A line, which has no name."""
        return line(value)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self.start)
        failure, sent = None, 1
        async with aclosing(self._lines):
            await _send_part(send, self._first)
            try:
                async for part in self._lines:
                    await _send_part(send, part)
                    sent += 1
            except Exception as error:
                failure = error
        await self.end(scope, send, failure, sent)


async def _send_part(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})


async def line_stream(lines: AsyncGenerator[bytes, None]) -> LineStream:
    """An answer that streams these lines; waits for the first, whose refusal keeps its status."""
    return LineStream(await anext(lines), lines)


class Named(Protocol):
    """Something with an id."""

    @property
    def id(self) -> str: ...


Record = TypeVar("Record", bound=Named)


async def rendered(items: Iterable[object]) -> list[bytes]:
    """The items in JSON, made and rendered one by one; other tasks may run in between."""
    done = []
    for item in items:
        done.append(to_json(item))
        await asyncio.sleep(0)
    return done


def with_data(empty: BaseModel, items: Iterable[bytes]) -> bytes:
    """The JSON of an answer whose `data` is an empty list, with these items in it."""
    before, _, after = to_json(empty).partition(b'"data":[]')
    return b"".join((before, b'"data":[', b",".join(items), b"]", after))


async def page(
    kind: type[PageBody[Any]],
    of: Callable[[Record], Listed],
    records: Sequence[Record],
    has_more: bool,
) -> Response:
    """The answer with a page of records, each of which `of` makes an item of the list."""
    first, last = (records[0].id, records[-1].id) if records else (None, None)
    empty = kind(data=[], has_more=has_more, first_id=first, last_id=last)
    items = await rendered(map(of, records))
    return Response(with_data(empty, items), media_type="application/json")
