"""One request and its answer as the ASGI server passes them, and errors in each API's form."""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic_core import to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.common.error_forms import error_form
from service.common.operations import OPERATIONS
from service.context import Ending, RequestContext
from service.errors import ServiceError
from service.runtime.parts import Plugins
from service.tenants.tenant import Tenant

ID_HEADER = "x-request-id"
TIMEOUT_HEADER = "x-request-timeout-ms"
_TRACE_HEADER = "traceresponse"
_IGNORED_HEADER = "x-ignored-fields"
_IGNORED_SHOWN = 16
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")


class HttpExchange:
    """A request and the state of its answer; adds the headers that every answer has.

    `status` is None until the answer has started. `blocked_since` is the time at which a part was
    handed to the server that the client has not taken yet, None while there is no such part.
    """

    def __init__(
        self,
        scope: Scope,
        headers: Headers,
        receive: Receive,
        send: Send,
        context: RequestContext,
        plugins: Plugins,
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
        """End the request with an error, which `send` sends unless an answer has begun."""
        # A traceback would refer to the request and its body, which refer to the error.
        self._error = error.with_traceback(None)
        error.__cause__ = error.__context__ = None
        if not self.started:
            answer = error_response(error, self.scope["path"], self.context.request_id)
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
        if status == 200 and OPERATIONS.get(self.route):
            context.progressed()  # what the client gets may tell it the version
        headers.update(self._plugins.headers(context, status))
        headers.update(context.allowance.headers())
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
    """Time until which a connection was asked to wait, in seconds of `time.monotonic`."""

    until: float = 0.0


def _nothing(*_: object) -> None: ...


def _always() -> bool:
    return True


@dataclass(slots=True)
class Peer:
    """The client of one request; made without arguments, one that is reached through ASGI alone."""

    write: Callable[[bytes], None] = _nothing
    """Writes a part of a body that has begun, bypassing all layers of `send`, unless `blocked`."""
    blocked: Callable[[], bool] = _always
    """True while the client does not read."""
    hold: Callable[[], None] = _nothing
    """Delays the head of an answer until its first part is written."""
    abort: Callable[[], None] = _nothing
    """Drops the connection at once."""
    read_on: Callable[[], None] | None = None
    """Resumes reading, which alone detects a disconnect; None if disconnects are not reported."""
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


def error_response(error: ServiceError, path: str, request_id: str) -> Response:
    """The answer to a request that an error ends."""
    content = to_json(error_form(path).body(error, request_id))
    return Response(content, error.status, error.headers(), media_type="application/json")
