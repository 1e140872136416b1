"""The scope of a request: identity, admission, body, and one report at its end."""

import asyncio
import logging
import re
import time
import uuid
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.body import BodyReader, ClientGone
from service.api.connection import MAX_HEAD_BYTES
from service.api.entrance import Entrance
from service.api.exchange import ID_HEADER, TIMEOUT_HEADER, Exchange
from service.api.late_refusals import LateRefusals
from service.api.upload import UploadReader, is_upload
from service.api.watch import run_watched
from service.context import RequestContext, Timeouts, enter_context
from service.errors import (
    DeadlineExceeded,
    HeadersTooLarge,
    InvalidRequest,
    RequestTimeout,
    ServiceError,
)
from service.feedback.answer_ids import AnswerIds
from service.quoting import quote
from service.runtime.open_requests import OpenRequests
from service.settings.gate import GateSettings
from service.settings.tree import HttpSettings
from service.telemetry.requests import RequestTelemetry

_log = logging.getLogger(__name__)

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_LINGER_SECONDS = 2.0
_MOST_QUERY_BYTES = 4096
"""Bytes of a query, which FastAPI parses for every route, whatever the route reads."""


class RequestScope:
    """Pure ASGI: owns a request from its first byte to its last, and reports its outcome.

    In order: admits callers that the entrance knows; reads the whole body, within its limits,
    before the route runs, and a file's onto the disk; cancels the route when the client
    disconnects, also while the request waits at the gate; closes the engine streams that the route
    left open; reports the request to `telemetry` once.

    A request that has no answer a little after its deadline is ended, and so is one whose client
    does not read its answer. Refusals of the gate are sent late to clients that come back too soon.
    While the service drains, requests are refused and connections asked to close.
    """

    def __init__(
        self,
        app: ASGIApp,
        http: HttpSettings,
        gate: GateSettings,
        telemetry: RequestTelemetry,
        requests: OpenRequests,
        entrance: Entrance,
        ids: AnswerIds,
        uploads: UploadReader | None = None,
    ) -> None:
        self._app = app
        self._requests = requests
        self._bodies = BodyReader(http)
        background = gate.background
        flex = Timeouts(background.default_timeout_ms, background.max_timeout_ms)
        self._timeouts = Timeouts(gate.default_timeout_ms, gate.max_timeout_ms, flex)
        self._late = LateRefusals(gate.refusals_at_once_per_s)
        self._telemetry = telemetry
        self._entrance = entrance
        self._ids = ids
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            # No route serves WebSocket: refuse it without asking for a key.
            await send({"type": "websocket.close", "code": 1008, "reason": ""})
            return
        headers = Headers(scope=scope)
        context = self._context(headers)
        enter_context(context)
        self._telemetry.arrived(context, scope["method"], headers)
        exchange = Exchange(scope, headers, receive, send, context, self._ids)
        exchange.close_connection = self._requests.closing
        with self._requests.one():
            await self._answer(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        context, cancelled = exchange.context, True
        try:
            await self._serve(exchange)
            cancelled = False
        except ClientGone:
            exchange.peer.abort()
            await asyncio.sleep(0)  # uvicorn notices it now
        finally:
            await context.close()
            context.route = exchange.route
            ending = exchange.ending(cancelled=cancelled)
            self._telemetry.answered(context, ending)
            context.ended(ending)

    def _context(self, headers: Headers) -> RequestContext:
        given = headers.get(ID_HEADER, "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        now = time.monotonic()
        deadline = now + self._timeouts.default_ms / 1000
        return RequestContext(request_id, now, deadline, self._timeouts, headers=headers)

    async def _serve(self, exchange: Exchange) -> None:
        try:
            body = await self._admit(exchange)
        except ServiceError as error:
            exchange.close_connection = True
            await _refuse(exchange, error)
            return

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            try:
                await self._app(scope, receive, send)
            except ServiceError as error:
                await self._late.hold(exchange)
                await exchange.fail(error, send)
            except Exception:
                _log.exception("request %s failed", exchange.context.request_id)
                await exchange.fail(ServiceError(), send)

        try:
            await run_watched(app, exchange, body)
        except DeadlineExceeded as error:
            await exchange.fail(error)

    async def _admit(self, exchange: Exchange) -> bytes:
        """The whole body of a request that may be served; raises ServiceError for any other."""
        headers, context = exchange.headers, exchange.context
        self._requests.check()
        _check_head(exchange.scope, headers)
        await self._entrance.admit(exchange.scope, headers, context)
        if (timeout := headers.get(TIMEOUT_HEADER)) is not None:
            context.set_timeout(_timeout_ms(timeout))
        if self._uploads is not None and is_upload(exchange.scope):
            upload = await self._uploads.read(headers, exchange.receive, context)
            context.extend(upload)
            context.body_bytes = upload.size
            return b""
        body = await self._bodies.read(headers, exchange.receive, context.tenant.name)
        context.body_bytes = len(body)
        return body


async def _refuse(exchange: Exchange, error: ServiceError) -> None:
    """Answer before the body was read, and go on reading it until the client has seen the answer.

    A connection that is closed with bytes unread is reset, which can take the answer with it
    (RFC 9112, 9.6).
    """

    async def send(message: Message) -> None:
        if message["type"] == "http.response.body" and not isinstance(error, RequestTimeout):
            await exchange.send({**message, "more_body": True})
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    while (await exchange.receive()).get("more_body", False):
                        pass
            message = {"type": "http.response.body", "body": b""}
        await exchange.send(message)

    await exchange.fail(error, send)


def _check_head(scope: Scope, headers: Headers) -> None:
    if (size := len(scope["query_string"])) > _MOST_QUERY_BYTES:
        raise HeadersTooLarge(f"query: at most {_MOST_QUERY_BYTES} bytes, got {size}")
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
