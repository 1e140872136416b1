"""One connection of the public port, bounded before there is a request to bound."""

import asyncio
import uuid
from typing import Any

from pydantic_core import to_json
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from service.errors import HeadersTooLarge, RequestTimeout, ServiceError, TooManyConnections
from service.tenants.tenant import ANONYMOUS

MAX_HEAD_BYTES = 64 * 1024
_HEAD_SECONDS = 10.0


class BoundedConnection(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, plus limits on what comes before a request is complete enough to run.

    The request line and headers must arrive within ten seconds and 64 KiB; a connection beyond
    uvicorn's `limit_concurrency` is answered with 503 and closed. Each refusal is told to the app's
    `state.refused`, with its code and the tenant, who is nobody yet. A request's `scope["abort"]`
    drops its connection at once.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_bytes = 0
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if self.limit_concurrency is not None and len(self.connections) >= self.limit_concurrency:
            message = f"The server holds {self.limit_concurrency - 1} connections, its limit."
            self._refuse(TooManyConnections(message, retry_after=1))
        else:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._head_complete()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_timer is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_timer is not None and self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(HeadersTooLarge(f"headers: at most {MAX_HEAD_BYTES} bytes, got more"))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        # Closing waits until the peer has read what is on its way to it, which it may never do.
        self.scope["abort"] = self.transport.abort  # type: ignore[typeddict-unknown-key]
        if self._head_timer is None:
            self._expect_head()

    def on_headers_complete(self) -> None:
        self._head_complete()
        super().on_headers_complete()

    def _expect_head(self) -> None:
        self._head_bytes = 0
        self._head_timer = self.loop.call_later(_HEAD_SECONDS, self._head_is_late)

    def _head_complete(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_is_late(self) -> None:
        self._refuse(RequestTimeout(f"headers: not received within {_HEAD_SECONDS:g} s"))

    def _refuse(self, error: ServiceError) -> None:
        self._head_complete()
        request_id = uuid.uuid4().hex
        body = to_json(error.body(request_id))
        head = b"content-type: application/json\r\nconnection: close\r\n"
        head += f"x-request-id: {request_id}\r\n".encode()
        if error.retry_after is not None:
            head += b"retry-after: %d\r\n" % error.retry_after
        head += b"content-length: %d\r\n\r\n" % len(body)
        app: Any = self.config.app
        app.state.refused(error.code, ANONYMOUS.name)
        self.transport.write(STATUS_LINE[error.status] + head + body)
        self.transport.close()
