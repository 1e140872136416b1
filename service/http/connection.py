"""One connection of either port: limits on unfinished requests, and merged small writes."""

import asyncio
import re
import uuid
from collections.abc import Callable
from typing import Any

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.datastructures import Headers, MutableHeaders
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)

from service.common.error_messages import quote
from service.errors import (
    HeadersTooLarge,
    InvalidRequest,
    MethodNotAllowed,
    PayloadTooLarge,
    RequestTimeout,
    ServiceError,
    TooManyConnections,
)
from service.http.auth import parse_host
from service.http.exchange import KEY, Pause, Peer, error_response, peer_of
from service.http.routers import dropped_reason
from service.tenants.tenant import ANONYMOUS

MAX_HEAD_BYTES = 64 * 1024
MAX_HEADERS = 256
"""The most headers of a request: each look-up compares the name with all of them."""
MAX_PIPELINED = 8
"""Requests that may wait behind one whose answer is under way; browsers and SDKs send none."""
_HEAD_SECONDS = 10.0
_FRAMING_BYTES = 64 * 1024
"""Bytes of a body's chunk sizes and trailers, beyond as many as the body itself has."""
_UNREAD_BYTES = 1 << 20
"""Bytes of a body that are held while earlier requests of the connection are answered."""
_ABSOLUTE = re.compile(rb"https?://([^/?#]*)", re.IGNORECASE)


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, plus limits on requests that are not complete yet.

    The request line and headers must arrive within ten seconds and 64 KiB, and the number of
    headers is limited. A connection beyond uvicorn's `limit_concurrency` gets 503 and is closed. A
    request must have exactly one well-formed `Host`, and its target must not name another host. The
    number of pipelined requests is limited, and trailers are dropped. `Upgrade` is ignored (RFC
    9110, 7.8). While an earlier request is being answered, a client would take a refusal for that
    answer. So no refusal is sent then: nothing more is read, and the connection closes after the
    pending answers. The scope of a request has a `Peer`.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None
        self._in_body = False
        self._framing_left = 0
        self._running: RequestResponseCycle | None = None
        self._reads = True
        self._pause = Pause()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(EndingTransport(transport, self.loop))  # type: ignore[arg-type]
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            message = f"The server holds {self.limit_concurrency - 1} connections, its limit."
            self._refuse(TooManyConnections(message, retry_after=1))
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_complete()
        self.transport.lost()  # type: ignore[attr-defined]
        super().connection_lost(exc)
        if self._running is not None:
            # uvicorn notifies the latest request only, which may wait behind this one.
            self._running.disconnected = not self._running.response_complete
            self._running.message_event.set()
            if self._running.disconnected:
                peer_of(self._running.scope).leave()

    def data_received(self, data: bytes) -> None:
        if not self._reads:
            return
        self._unset_keepalive_if_required()
        if self._head_timer is None and not self._in_body:
            self._expect_head()  # empty lines do not begin a request
        self._head_bytes += len(data)
        self._framing_left -= len(data)
        try:
            self._feed(data)
            self._check_bytes()
        except ServiceError as error:
            self._refuse(error)
        except HttpParserError as error:
            cause = error.__context__
            invalid = InvalidRequest("The request is not valid HTTP/1.1.", code="invalid_http")
            self._refuse(cause if isinstance(cause, ServiceError) else invalid)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # A bound method of the cycle would make a reference cycle with its scope, left to the
        # collector.
        self.scope[KEY] = Peer(  # type: ignore[literal-required]
            self._write,
            self._blocked,
            self.transport.hold,  # type: ignore[attr-defined]
            # Closing waits until the peer has read what is on its way to it, which may never be.
            self.transport.abort,
            self.flow.resume_reading,
            self._pause,
        )
        if self._head_timer is None:
            self._expect_head()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_body:  # trailers, which no route reads
            return
        if len(self.headers) == MAX_HEADERS:
            raise HeadersTooLarge(f"headers: at most {MAX_HEADERS}, got more")
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise MethodNotAllowed("CONNECT is not served")
            return  # `_feed` has it parsed again
        self._check_host()
        self._head_complete()
        self._in_body = True
        self._framing_left = _FRAMING_BYTES
        super().on_headers_complete()
        if len(self.pipeline) > MAX_PIPELINED:
            message = f"pipelining: at most {MAX_PIPELINED} requests may wait, got more"
            raise InvalidRequest(message, code="too_many_pipelined")

    def on_body(self, body: bytes) -> None:
        self._framing_left += 2 * len(body)
        super().on_body(body)
        if len(self.cycle.body) > _UNREAD_BYTES:
            raise PayloadTooLarge(f"body: at most {_UNREAD_BYTES} bytes while it is not read")

    def on_message_complete(self) -> None:
        if self._in_body:
            self._in_body = False
            super().on_message_complete()

    def on_response_complete(self) -> None:
        self.transport.flush()  # type: ignore[attr-defined]
        super().on_response_complete()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._running = cycle
        if cycle.scope["http_version"] == "1.0":
            app = _for_http_1_0(cycle, app)
        super()._start_asgi_task(cycle, app)

    def _feed(self, data: bytes) -> None:
        """Parse the bytes; a request that asks for an upgrade is parsed like any other.

        At such a request httptools ends the message at the head, and would take its body for the
        next request. It says where the head ends, so a new parser gets the head again without
        `Upgrade`, then what followed.
        """
        while True:
            try:
                self.parser.feed_data(data)
                return
            except HttpParserUpgrade as upgrade:
                data = self._head_without_upgrade() + data[upgrade.args[0] :]
                self.parser = HttpRequestParser(self)
                # As in uvicorn, a request after `Connection: close` is ignored without an error.
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _head_without_upgrade(self) -> bytes:
        version = self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (self.parser.get_method(), self.url, version)]
        lines += [b"%s: %s" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def _check_host(self) -> None:
        """Raise InvalidRequest unless the request names its host once, as RFC 9112, 3.2, has it.

        Where two names differ, a proxy or a filter in front may have gone by the other one.
        """
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) != 1 and (hosts or self.parser.get_http_version() != "1.0"):
            message = f"Host: exactly one is needed, got {len(hosts)}"
            raise InvalidRequest(message, param="Host", code="invalid_host")
        host = hosts[0] if hosts else b""
        if hosts:
            parse_host(host.decode("latin-1"))
        if not self.url.startswith(b"/") and self.url != b"*":
            found = _ABSOLUTE.match(self.url)
            if found is None or not host or found[1].lower() != host.lower():
                given = quote(self.url.decode("latin-1"))
                message = f"target: must be a path, or an address of the host in Host, got {given}"
                raise InvalidRequest(message, code="invalid_host")

    def _check_bytes(self) -> None:
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            raise HeadersTooLarge(f"headers: at most {MAX_HEAD_BYTES} bytes, got more")
        if self._in_body and self._framing_left < 0:
            raise PayloadTooLarge(
                f"body: at most {_FRAMING_BYTES} bytes of chunk sizes and trailers, beyond as many "
                "as the body has, got more"
            )

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._head_is_late)

    def _head_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        if self._answering():  # the next request's time begins once this one is answered
            self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._head_is_late)
        else:
            self._refuse(RequestTimeout(f"headers: not received within {_HEAD_SECONDS:g} s"))

    def _write(self, part: bytes) -> None:
        """Write a part of an answer without a length, as `send` does when nothing blocks it."""
        assert self._running is not None
        if not self._running.disconnected:
            chunked = self._running.chunked_encoding
            self.transport.write(b"%x\r\n%b\r\n" % (len(part), part) if chunked else part)

    def _blocked(self) -> bool:
        return self.flow.write_paused

    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _drop_refused(self) -> bool:
        """Drop the request with the refused body; True if no other request is being answered."""
        if not self._in_body:
            return False
        if self.cycle is not self._running:
            self.pipeline.popleft()
            self.cycle = self.pipeline[0][0] if self.pipeline else self._running  # type: ignore[assignment]
            return False
        if self.cycle.response_started:
            return False
        self.cycle.disconnected = True
        self.cycle.message_event.set()
        peer_of(self.scope).abort = self.transport.close
        return True

    def _count(self, error: ServiceError) -> None:
        """Count a refusal, without a tenant, still unknown; the admin port has no counts."""
        app: Any = self.config.app
        if (runtime := getattr(app.state, "runtime", None)) is not None:
            runtime.metrics.count_refusal(error.code, ANONYMOUS.name)

    def _refuse(self, error: ServiceError) -> None:
        self._head_complete()
        if self.transport.is_closing():
            return
        self._count(error)
        self._reads = False
        if self._answering() and not self._drop_refused():
            self.cycle.keep_alive = False
            return
        request_id = uuid.uuid4().hex
        app: Any = self.config.app
        behind_router = getattr(app.state, "behind_router", False)
        status = error.status_for(router=behind_router)
        answer = error_response(error, "", request_id, status)
        if behind_router:
            answer.headers.update(dropped_reason(error))
        answer.headers.update({"connection": "close", "x-request-id": request_id})
        headers = (*self.server_state.default_headers, *answer.raw_headers)
        lines = b"".join(b"%b: %b\r\n" % each for each in headers)
        self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + bytes(answer.body))
        self.transport.close()


def _for_http_1_0(cycle: RequestResponseCycle, app: ASGI3Application) -> ASGI3Application:
    """The app for a request of HTTP/1.0, which knows no chunks and no open connections by default.

    An answer without a length ends with its connection. One with a length leaves it open for who
    asks for that (`ab -k`, old proxies), and says so, as RFC 9112, C.2.2, has it.
    """

    asked = Headers(raw=[*cycle.scope["headers"]]).get("connection", "")
    keeps = asked.lower() == "keep-alive"

    async def run(scope: Any, receive: Any, send: Any) -> None:
        async def plain(message: Any) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if "content-length" not in headers:
                    cycle.chunked_encoding = False
                elif keeps and "connection" not in headers:
                    cycle.keep_alive = True
                    headers["connection"] = "keep-alive"
            elif cycle.chunked_encoding is False and cycle.expected_content_length == 0:
                cycle.expected_content_length = len(message.get("body", b""))
            await send(message)

        await app(scope, receive, plain)

    return run


_LAST_BYTES_SECONDS = 20.0
"""Seconds for a peer to take its last bytes, the same as for one that reads no answer."""
_JOINED_BYTES = 64 * 1024
"""Longest part that is copied behind the head of its answer."""


class EndingTransport:
    """A transport that is aborted 20 seconds after `close` if its peer has not read everything.

    An asyncio transport waits without limit for its last bytes to be read, and counts as an open
    connection meanwhile. All methods other than `close` and `hold` are the transport's own.
    """

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        # Called for every token: saves `__getattr__`.
        self.write: Callable[[bytes], None] = transport.write
        self._loop = loop
        self._drop: asyncio.TimerHandle | None = None
        self._head = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def hold(self) -> None:
        """Buffer the next bytes, an answer's headers, until the answer's first part is written.

        Two small writes would be two packets, which may wake the peer twice.
        """
        self.write = self._keep

    def _keep(self, head: bytes) -> None:
        self._head = head
        self.write = self._join

    def _join(self, part: bytes) -> None:
        if len(part) > _JOINED_BYTES:
            self.flush()
            self.write(part)
            return
        head, self._head = self._head, b""
        self.write = self._transport.write
        self.write(head + part)

    def flush(self) -> None:
        """Write buffered headers of an answer without a body."""
        head, self._head = self._head, b""
        self.write = self._transport.write
        if head:
            self.write(head)

    def close(self) -> None:
        """Close once the peer has read all buffered data, or after 20 seconds."""
        self.flush()
        if not self._transport.is_closing():
            self._transport.close()
            self._drop = self._loop.call_later(_LAST_BYTES_SECONDS, self._transport.abort)

    def lost(self) -> None:
        """Forget the timer; the connection has ended."""
        if self._drop is not None:
            self._drop.cancel()
