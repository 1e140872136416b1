"""One request and its answer: headers, errors in each API's form, and answers that stream."""

import asyncio
import logging
import re
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.common.error_forms import error_form
from service.common.operations import OPERATIONS
from service.context import Ending, RequestContext, current_context
from service.context.answer import Answer
from service.engine.texts import Writer
from service.errors import ServiceError
from service.http.routers import RouterSignals
from service.runtime.parts import Plugins
from service.tenants.tenant import Tenant

_log = logging.getLogger(__name__)

ID_HEADER = "x-request-id"
TIMEOUT_HEADER = "x-request-timeout-ms"
_TRACE_HEADER = "traceresponse"
_IGNORED_HEADER = "x-ignored-fields"
_CHECKED_HEADER = "x-schema-checked"
_IGNORED_SHOWN = 16
_UNPRINTABLE = re.compile(r"[^ -~]+")
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")


class HttpExchange:
    """A request and the state of its answer; adds the headers that every answer has.

    `status` is None until the answer has started. `blocked_since` is when the sending of a part
    began, while that part waits for the client to read; else None.
    """

    def __init__(
        self,
        scope: Scope,
        headers: Headers,
        receive: Receive,
        send: Send,
        context: RequestContext,
        plugins: Plugins,
        signals: RouterSignals | None = None,
    ) -> None:
        self.scope = scope
        self.peer = peer_of(scope)
        self.headers = headers
        self.receive = receive
        self.context = context
        self.status: int | None = None
        self.complete = False
        self.close_connection = False
        self.blocked_since: float | None = None
        self._error: ServiceError | None = None
        self._send = send
        self._plugins = plugins
        # The service's own calls, such as a batch's, come through no router.
        self._signals = signals if self.peer.tenant is None else None

    @property
    def started(self) -> bool:
        """True once the client has been sent a status."""
        return self.status is not None

    def ending(self, *, cancelled: bool) -> Ending:
        """The end of the request; `cancelled` if it was stopped before its answer was complete."""
        if cancelled:
            return Ending("cancelled", self.status)
        if self._error is not None:
            return Ending(self._error.outcome, self.status, self._error)
        return Ending("ok" if (self.status or 500) < 400 else "invalid", self.status)

    @property
    def route(self) -> str:
        """The template of the route; before routing, a known path or `unmatched`."""
        if "route" in self.scope:
            return str(self.scope["route"].path)
        return str(self.scope["path"]) if self.scope["path"] in OPERATIONS else "unmatched"

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            self._add_headers(headers, message["status"])
            if "content-length" in headers:
                self.peer.hold()  # the body follows at once
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        self.blocked_since = time.monotonic()
        try:
            await self._send(message)
        finally:
            self.blocked_since = None

    async def fail(self, error: ServiceError, send: Send | None = None) -> None:
        """End the request with an error, which `send` sends if the answer has not started."""
        # A traceback would refer to the request and its body, which refer to the error.
        self._error = error.with_traceback(None)
        error.__cause__ = error.__context__ = None
        if not self.started:
            status = error.status_for(router=self._signals is not None)
            answer = error_response(error, self.scope["path"], self.context.request_id, status)
            await answer(self.scope, self.receive, send or self.send)

    def _add_headers(self, headers: MutableHeaders, status: int) -> None:
        context = self.context
        headers[ID_HEADER] = context.request_id
        if name := error_form(self.scope["path"]).id_header:
            headers[name] = context.request_id
        if context.trace:
            headers[_TRACE_HEADER] = context.trace.response_header
        if context.ignored_fields:
            headers[_IGNORED_HEADER] = _names(context.ignored_fields)
        if (answer := context.extension(Answer)) is not None and answer.unenforced:
            shown = "; ".join(answer.unenforced[:_IGNORED_SHOWN])
            headers[_CHECKED_HEADER] = _UNPRINTABLE.sub("?", shown)
        served = status == 200 and OPERATIONS.get(self.route) is not None
        if served:
            context.progressed()  # what the client gets may tell it the version
        headers.update(self._plugins.headers(context, status))
        headers.update(context.allowance.headers())
        if self._signals is not None:
            headers.update(self._signals.headers(self.headers, context, self._error, served=served))
        if self.close_connection:
            headers["connection"] = "close"


def _names(fields: Sequence[str]) -> str:
    """Names for a header; `?` for one that a header cannot hold."""
    shown = [name if _PLAIN_NAME.fullmatch(name) else "?" for name in fields[:_IGNORED_SHOWN]]
    more = ["..."] if len(fields) > _IGNORED_SHOWN else []
    return ", ".join(shown + more)


KEY = "llm_service"
"""Key of a scope, which no client can set: a server makes scopes and copies nothing into them."""


@dataclass(slots=True)
class Pause:
    """Until when a connection was asked not to retry, in seconds of `time.monotonic`."""

    until: float = 0.0


def _nothing(*_: object) -> None: ...


def _always() -> bool:
    return True


@dataclass(slots=True)
class Peer:
    """The client of one request; without arguments, a client that calls the app through ASGI."""

    write: Callable[[bytes], None] = _nothing
    """Writes a part of a body that has begun, bypassing all layers of `send`, unless `blocked`."""
    blocked: Callable[[], bool] = _always
    """True while the client does not read."""
    hold: Callable[[], None] = _nothing
    """Delays the head of an answer until its first part is written."""
    abort: Callable[[], None] = _nothing
    """Drops the connection at once."""
    read_on: Callable[[], None] = _nothing
    """Resumes reading, which alone detects a disconnect."""
    pause: Pause | None = None
    """The pause that the connection was asked for; None where refusals are never held."""
    tenant: Tenant | None = None
    """The tenant of a request that the service makes to itself; None for a client's."""
    gone: bool = False
    """True once the client has closed the connection."""
    _call: Callable[[], None] | None = field(default=None, repr=False)

    def watch(self, call: Callable[[], None] | None) -> None:
        """Set the function to call when the client disconnects; None for no function."""
        self._call = call

    def leave(self) -> None:
        """Record that the client has disconnected, and call the function of `watch`."""
        self.gone = True
        if self._call is not None:
            self._call()


def peer_of(scope: Mapping[str, Any]) -> Peer:
    """The client of a request."""
    return scope.get(KEY) or Peer()


def error_response(
    error: ServiceError, path: str, request_id: str, status: int | None = None
) -> Response:
    """The answer to a request that an error ends; its status is the error's unless given."""
    content = to_json(error_form(path).body(error, request_id))
    headers = error.headers()
    return Response(content, status or error.status, headers, media_type="application/json")


MEDIA_TYPE = "text/event-stream"
NDJSON_MEDIA_TYPE = "application/x-ndjson"

STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {}}}}
"""OpenAPI description of answers that may stream."""

DONE = b"data: [DONE]\n\n"


def event(value: object, name: str | None = None) -> bytes:
    """One server-sent event, perhaps with a name, whose data is the value's JSON."""
    head = b"" if name is None else b"event: " + name.encode() + b"\n"
    return head + b"data: " + to_json(value) + b"\n\n"


class NamedEvents:
    """Writes events that are named by their `type`; the events of one step are written together."""

    def __init__(self) -> None:
        self._events: list[bytes] = []

    def _add(self, name: str, /, **fields: Any) -> None:
        self._events.append(event({"type": name, **fields}, name))

    def _write_to(self, writer: Writer) -> None:
        if self._events:
            writer.write(b"".join(self._events))
            self._events.clear()


def line(value: object, name: str | None = None) -> bytes:
    """One line of NDJSON with the value; lines have no names."""
    return to_json(value) + b"\n"


_CONTENT_TYPES = {
    MEDIA_TYPE: b"text/event-stream; charset=utf-8",
    NDJSON_MEDIA_TYPE: NDJSON_MEDIA_TYPE.encode(),
}


class PushedStream(Response):
    """An answer that streams: `write_to` writes its events, or lines of NDJSON, as they come.

    An error before the first event is answered with its own HTTP status. A later one is sent as the
    last event, in the form of the API, without `[DONE]`, and raised once the answer is complete.
    `count` returns the number of events so far, for APIs that number them.
    """

    def __init__(
        self,
        write_to: Callable[[Writer], Awaitable[None]],
        count: Callable[[], int] = int,
        media_type: str = MEDIA_TYPE,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = [
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
            (b"content-type", _CONTENT_TYPES[media_type]),
        ]
        self._start: Message = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        self._render = line if media_type == NDJSON_MEDIA_TYPE else event
        self._write_to = write_to
        self._count = count

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        writer = _AnswerWriter(self._start, peer_of(scope), send)
        failure: ServiceError | None = None
        try:
            await self._write_to(writer)
        except Exception as error:
            if not writer.started:
                raise
            failure = error if isinstance(error, ServiceError) else ServiceError()
            if failure is not error:
                _log.exception("a stream failed")
        finally:
            writer.stop()
        if failure is not None:
            request_id = current_context().request_id
            form = error_form(scope["path"])
            name, value = form.event(failure, request_id, self._count())
            await _send_part(send, self._render(value, name))
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if failure is not None:
            raise failure


async def _send_part(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})


class _AnswerWriter:
    """Writes parts to the connection at once or, while it takes none, in a task that waits."""

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
            await _send_part(self._send, part)
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
