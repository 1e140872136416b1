"""The life of a request: authentication, admission, its body, its cancellation, its telemetry."""

import asyncio
import logging
import re
import time
import uuid
from contextlib import suppress

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.common.counting import PerSecond
from service.common.error_messages import quote
from service.context import RequestContext, Timeouts, enter_context
from service.errors import (
    DeadlineExceeded,
    HeadersTooLarge,
    InvalidRequest,
    RequestTimeout,
    ServiceError,
)
from service.http.auth import Authenticator
from service.http.connection import MAX_HEAD_BYTES
from service.http.exchange import ID_HEADER, TIMEOUT_HEADER, HttpExchange
from service.http.json_routes import BodyReader, ClientGone, replay
from service.http.routers import RouterSignals, believe_gateway
from service.runtime.ready import Foundation
from service.settings.tree import Settings

_log = logging.getLogger(__name__)

_SANE_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_LINGER_SECONDS = 2.0
_MOST_QUERY_BYTES = 4096
"""Bytes of a query, which FastAPI parses for every route, whatever the route reads."""


class RequestLifecycle:
    """Pure ASGI: owns a request from its first byte to its last, and reports its outcome.

    In order: it admits callers that the authenticator knows; it reads the whole body, within
    limits, before the route runs, unless a plugin reads the body; it cancels the route if the
    client disconnects, even during the wait for admission; it closes engine streams that the route
    left open; it reports the request to `telemetry` once.

    A request is ended if it has no answer a little after its deadline, or if its client does not
    read the answer. Rejections by admission control are delayed for clients that retry too soon.
    While the service drains, requests are refused and connections asked to close.
    """

    def __init__(
        self,
        app: ASGIApp,
        settings: Settings,
        foundation: Foundation,
        authenticator: Authenticator,
    ) -> None:
        http, admission = settings.http, settings.admission
        self._app = app
        self._requests = foundation.requests
        self._bodies = BodyReader(http.max_body_bytes, http.body_timeout_ms, http.tenant_body_bytes)
        background = admission.background
        flex = Timeouts(background.default_timeout_ms, background.max_timeout_ms)
        self._timeouts = Timeouts(admission.default_timeout_ms, admission.max_timeout_ms, flex)
        self._late = LateRefusals(admission.refusals_at_once_per_s)
        self._telemetry = foundation.telemetry
        self._authenticator = authenticator
        self._signals = RouterSignals(foundation.metrics) if http.behind_router else None
        self._plugins = foundation.plugins
        readers = (each.body_reader() for each in self._plugins)
        self._readers = [each for each in readers if each is not None]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # no connection asks for another protocol
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        context = self._context(headers)
        enter_context(context)
        self._telemetry.begin(context, scope["method"], headers)
        exchange = HttpExchange(
            scope, headers, receive, send, context, self._plugins, self._signals
        )
        exchange.close_connection = self._requests.closing
        with self._requests.one():
            await self._answer(exchange)

    async def _answer(self, exchange: HttpExchange) -> None:
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
            ending = self._telemetry.end(context, exchange.ending(cancelled=cancelled))
            self._plugins.ended(context, ending)
            context.ended(ending)

    def _context(self, headers: Headers) -> RequestContext:
        given = headers.get(ID_HEADER, "")
        request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        now = time.monotonic()
        deadline = now + self._timeouts.default_ms / 1000
        return RequestContext(request_id, now, deadline, self._timeouts, headers=headers)

    async def _serve(self, exchange: HttpExchange) -> None:
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

    async def _admit(self, exchange: HttpExchange) -> bytes:
        """The whole body of a request that may be served; raises ServiceError for any other."""
        headers, context = exchange.headers, exchange.context
        self._requests.check()
        _check_head(exchange.scope, headers)
        await self._authenticator.admit(exchange.scope, headers, context)
        if context.tenant.gateway:
            believe_gateway(headers, context)
        if (timeout := headers.get(TIMEOUT_HEADER)) is not None:
            context.set_timeout(_timeout_ms(timeout))
        for reader in self._readers:
            if reader.owns(exchange.scope):
                context.body_bytes = await reader.read(headers, exchange.receive, context)
                return b""
        body = await self._bodies.read(headers, exchange.receive, context.tenant.name)
        context.body_bytes = len(body)
        return body


async def _refuse(exchange: HttpExchange, error: ServiceError) -> None:
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
        raise InvalidRequest.at(
            "X-Request-Timeout-Ms", f"must be a positive number of milliseconds, got {quote(value)}"
        )
    return int(value)


_UNREAD_SECONDS = 5.0
_BLOCKED_SECONDS = 20.0
_UNANSWERED_SECONDS = 0.5
_LOOK_AGAIN_SECONDS = 5.0


async def run_watched(app: ASGIApp, exchange: HttpExchange, body: bytes) -> None:
    """Run the app on a body that was read, until the client disconnects or its time is over.

    Raises ClientGone if the client has disconnected, reads nothing for many seconds, or has not
    read the whole answer some seconds after the deadline; DeadlineExceeded if there is no answer.
    """
    watch = _Watch(exchange)
    watch.begin()
    try:
        await app(exchange.scope, replay(body), exchange.send)
    except asyncio.CancelledError:
        if watch.end is None:
            raise
    finally:
        watch.stop()
    if watch.end is not None:
        watch.task.uncancel()
        raise watch.end


class _Watch:
    """Cancels the current task when its request must end, and keeps the reason as `end`.

    A timer checks the deadline; the request's `Peer` calls back when its client has gone.
    """

    def __init__(self, exchange: HttpExchange) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.task = task
        self.end: Exception | None = None
        self._watching = True
        self._exchange = exchange
        self._loop = asyncio.get_running_loop()
        self._peer = exchange.peer
        self._timer: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        if self._peer.gone:
            self._loop.call_soon(self._gone)
        else:
            self._peer.watch(self._gone)
        self._look()

    def stop(self) -> None:
        self._watching = False
        if self._timer is not None:
            self._timer.cancel()
        self._peer.watch(None)

    def _look(self) -> None:
        self._peer.read_on()  # a request pipelined behind this one stops the reading
        if (left := _seconds_left(self._exchange)) > 0:
            # The route may move the deadline.
            self._timer = self._loop.call_later(min(left, _LOOK_AGAIN_SECONDS), self._look)
        else:
            self._finish(ClientGone() if self._exchange.started else self._late())

    def _late(self) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"The deadline passed, and {self._exchange.context.elapsed():.1f} s after the request "
            "arrived its answer had not begun."
        )

    def _gone(self) -> None:
        self._finish(ClientGone())

    def _finish(self, end: Exception) -> None:
        if self._watching and not self._exchange.complete:
            self.stop()
            self.end = end
            self.task.cancel()


def _seconds_left(exchange: HttpExchange) -> float:
    """Seconds until the request is ended here; those in admission end at their deadline."""
    grace = _UNREAD_SECONDS if exchange.started else _UNANSWERED_SECONDS
    end = exchange.context.deadline + grace
    if exchange.blocked_since is not None:
        end = min(end, exchange.blocked_since + _BLOCKED_SECONDS)
    return end - time.monotonic()


_LONGEST_PAUSE_SECONDS = 2.0
"""Longest delay of a rejection. Each connection may have one that is delayed."""
_HELD_BYTES = 64 * 1024
"""Largest body whose rejection is delayed: the bodies stay in memory meanwhile."""


class LateRefusals:
    """Delays admission control's rejections of a tenant that has had many in a second.

    The first rejections of each second are sent at once. A later one waits until the `Retry-After`
    of its connection's last rejection has passed, at most two seconds.
    """

    def __init__(self, at_once: int) -> None:
        self._at_once = PerSecond(at_once)

    async def hold(self, exchange: HttpExchange) -> None:
        """Wait until the rejection of this request may be sent, at most to its deadline."""
        pause, context = exchange.peer.pause, exchange.context
        refusal = context.admission_refusal
        if refusal is None or pause is None:
            return
        prompt = self._at_once.allows(context.tenant.name)
        if not prompt and context.body_bytes <= _HELD_BYTES:
            until = min(pause.until, context.deadline)
            await asyncio.sleep(max(0.0, until - time.monotonic()))
        seconds = min(refusal.retry_after or 0.0, _LONGEST_PAUSE_SECONDS)
        pause.until = time.monotonic() + seconds


class HeadAsGet:
    """Pure ASGI: answers HEAD like GET; the server leaves out the body (RFC 9110, 9.3.2)."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)
