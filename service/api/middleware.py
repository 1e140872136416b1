"""Stages that every request passes: identity, bounded body, deadline, disconnects, bookkeeping."""

import asyncio
import logging
import re
import time
import uuid
from contextlib import suppress

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.body import BodyReader, ClientGone
from service.api.connection import MAX_HEAD_BYTES
from service.api.entrance import Entrance
from service.api.errors import error_response
from service.context import RequestContext, enter_context
from service.errors import (
    DeadlineExceeded,
    HeadersTooLarge,
    InvalidRequest,
    RequestTimeout,
    ServiceError,
)
from service.operations import OPERATIONS
from service.quoting import quote
from service.runtime.open_requests import OpenRequests
from service.settings.tree import GateSettings, HttpSettings
from service.telemetry.requests import RequestTelemetry

_log = logging.getLogger(__name__)

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_ID_HEADER = "x-request-id"
_TRACE_HEADER = "traceresponse"
_TIMEOUT_HEADER = "x-request-timeout-ms"
_LINGER_SECONDS = 2.0
_UNREAD_SECONDS = 5.0
_BLOCKED_SECONDS = 20.0
_UNANSWERED_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 5.0


class RequestScope:
    """Pure ASGI: owns a request from its first byte to its last.

    Lets in whom the entrance knows; reads the body whole, within its limits, before the route runs;
    cancels the route when the client disconnects, streamed or not, also while it waits at the gate;
    closes the engine streams that the route left open; tells `telemetry` of the request once. Ends,
    a little after its deadline, what has no answer yet outside of the gate, and what does not read
    its answer. While the service drains, refuses and asks connections to close.
    """

    def __init__(
        self,
        app: ASGIApp,
        http: HttpSettings,
        gate: GateSettings,
        telemetry: RequestTelemetry,
        requests: OpenRequests,
        entrance: Entrance,
    ) -> None:
        self._app = app
        self._requests = requests
        self._bodies = BodyReader(http)
        self._gate = gate
        self._telemetry = telemetry
        self._entrance = entrance

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # Nothing is served over WebSocket, so nothing needs a key to be refused.
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        headers = Headers(scope=scope)
        context = self._context(headers)
        enter_context(context)
        self._telemetry.arrived(context, scope["method"], headers)
        answer = _Answer(send, context)
        answer.close_connection = self._requests.closing
        with self._requests.one():
            await self._answer(scope, headers, context, receive, answer)

    async def _answer(
        self,
        scope: Scope,
        headers: Headers,
        context: RequestContext,
        receive: Receive,
        answer: "_Answer",
    ) -> None:
        outcome = "cancelled"
        try:
            await self._serve(scope, headers, context, receive, answer)
            outcome = context.failure.outcome if context.failure else answer.outcome()
        except ClientGone:
            context.failure = None  # nobody was told of it
            if "abort" in scope:
                scope["abort"]()
                await asyncio.sleep(0)  # until uvicorn knows
        finally:
            await context.close()
            context.route = _route(scope)
            self._telemetry.answered(context, outcome, answer.status)

    def _context(self, headers: Headers) -> RequestContext:
        given = headers.get(_ID_HEADER, "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        now = time.monotonic()
        deadline = now + self._gate.default_timeout_ms / 1000
        return RequestContext(request_id, now, deadline, self._gate.max_timeout_ms)

    async def _serve(
        self,
        scope: Scope,
        headers: Headers,
        context: RequestContext,
        receive: Receive,
        answer: "_Answer",
    ) -> None:
        try:
            self._requests.check()
            _check_head(headers)
            await self._entrance.admit(scope, headers, context)
            if (timeout := headers.get(_TIMEOUT_HEADER)) is not None:
                context.set_timeout(_timeout_ms(timeout))
            body = await self._bodies.read(headers, receive, context.tenant.name)
            context.body_bytes = len(body)
        except ServiceError as error:
            answer.close_connection = True
            # Its traceback holds what was read of the body.
            await _refuse(error.with_traceback(None), scope, receive, answer)
            return
        try:
            await _until_ended(self._app, scope, body, receive, answer, context)
        except ClientGone:
            raise
        except DeadlineExceeded as error:
            await error_response(error)(scope, receive, answer.send)
        except Exception:
            _log.exception("request %s failed", context.request_id)
            context.failure = ServiceError()
            if not answer.started:
                await error_response(context.failure)(scope, receive, answer.send)


class _Answer:
    """The sending side: adds the request's identity and remembers how far the answer is."""

    def __init__(self, send: Send, context: RequestContext) -> None:
        self._send = send
        self._context = context
        self.status: int | None = None
        self.complete = False
        self.close_connection = False
        self.blocked_since: float | None = None

    @property
    def started(self) -> bool:
        return self.status is not None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            headers[_ID_HEADER] = self._context.request_id
            if self._context.trace:
                headers[_TRACE_HEADER] = self._context.trace.response_header
            if self.close_connection:
                headers["connection"] = "close"
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        self.blocked_since = time.monotonic()
        try:
            await self._send(message)
        finally:
            self.blocked_since = None

    def outcome(self) -> str:
        return "ok" if self.status is not None and self.status < 400 else "invalid"


async def _refuse(error: ServiceError, scope: Scope, receive: Receive, answer: _Answer) -> None:
    """Answer before the body was read, and go on reading it until the client has seen the answer.

    A connection that is closed with bytes unread is reset, which can take the answer with it
    (RFC 9112, 9.6).
    """

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and not isinstance(error, RequestTimeout):
            await answer.send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    while (await receive()).get("more_body", False):
                        pass
            message = {"type": "http.response.body", "body": b""}
        await answer.send(message)

    await error_response(error)(scope, receive, send)


async def _until_ended(
    app: ASGIApp,
    scope: Scope,
    body: bytes,
    receive: Receive,
    answer: _Answer,
    context: RequestContext,
) -> None:
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
        while present and (left := _seconds_left(answer, context)) > 0:
            with suppress(TimeoutError):
                # The route may move the deadline.
                async with asyncio.timeout(min(left, _LOOK_AGAIN_SECONDS)):
                    present = (await receive())["type"] != "http.disconnect"
        if not answer.complete:
            end = _late(context) if present and not answer.started else ClientGone()
            task.cancel()

    async def send(message: Message) -> None:
        if end is None:  # else it is what vLLM's handlers answer to being cancelled
            await answer.send(message)

    watcher = asyncio.create_task(watch())
    try:
        await app(scope, _replay(body), send)
    except asyncio.CancelledError:
        if end is None:
            raise
    finally:
        watcher.cancel()
    if end is not None:
        task.uncancel()
        raise end


def _replay(body: bytes) -> Receive:
    """Receives a body that was read, then nothing more."""
    messages = iter([{"type": "http.request", "body": body, "more_body": False}])

    async def receive() -> Message:
        if (message := next(messages, None)) is not None:
            return message
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a request's body is received once")

    return receive


def _seconds_left(answer: _Answer, context: RequestContext) -> float:
    """Until the request is ended here; the gate ends those that are with it at their deadline."""
    grace = _UNREAD_SECONDS if answer.started else _UNANSWERED_SECONDS
    end = context.deadline + grace
    if answer.blocked_since is not None:
        end = min(end, answer.blocked_since + _BLOCKED_SECONDS)
    return end - time.monotonic()


def _late(context: RequestContext) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The deadline passed, and {context.elapsed():.1f} s after the request arrived its answer"
        " had not begun."
    )


def _route(scope: Scope) -> str:
    """The template; of a request that was refused before it was routed, what it asked for."""
    if "route" in scope:
        return str(scope["route"].path)
    return str(scope["path"]) if scope["path"] in OPERATIONS else "unmatched"


def _check_head(headers: Headers) -> None:
    size = sum(len(name) + len(value) for name, value in headers.raw)
    if size > MAX_HEAD_BYTES:
        raise HeadersTooLarge(f"headers: at most {MAX_HEAD_BYTES} bytes, got {size}")


def _timeout_ms(value: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", value) or int(value) < 1:
        raise InvalidRequest(
            f"X-Request-Timeout-Ms: must be a positive number of milliseconds, got {quote(value)}",
            param="X-Request-Timeout-Ms",
        )
    return int(value)
