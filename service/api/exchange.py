"""One request and its answer, as the ASGI server passes them."""

import re
import time
from collections.abc import Mapping, Sequence
from urllib.parse import quote as percent_encoded

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import Message, Receive, Scope, Send

from service.api.error_forms import ANTHROPIC_PATHS, error_response
from service.api.peer import peer_of
from service.context import Ending, RequestContext
from service.context.answer_guard import Guarded
from service.errors import ServiceError
from service.feedback.answer_ids import AnswerIds
from service.operations import OPERATIONS

ID_HEADER = "x-request-id"
TIMEOUT_HEADER = "x-request-timeout-ms"
_ANTHROPIC_ID_HEADER = "request-id"
_TRACE_HEADER = "traceresponse"
_IGNORED_HEADER = "x-ignored-fields"
_FLAGGED_HEADER = "x-guard-flagged"
_FEEDBACK_HEADER = "x-feedback-id"
_IGNORED_SHOWN = 16
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")


class Exchange:
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
        ids: AnswerIds,
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
        self._ids = ids

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
            self._add_headers(headers)
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

    def _add_headers(self, headers: MutableHeaders) -> None:
        context = self.context
        headers[ID_HEADER] = context.request_id
        if self.scope["path"] in ANTHROPIC_PATHS:
            headers[_ANTHROPIC_ID_HEADER] = context.request_id
        if context.trace:
            headers[_TRACE_HEADER] = context.trace.response_header
        if context.ignored_fields:
            headers[_IGNORED_HEADER] = _names(context.ignored_fields)
        guarded = context.extension(Guarded)
        if guarded is not None and guarded.flags:
            headers[_FLAGGED_HEADER] = ", ".join(map(percent_encoded, guarded.flags))
        if self.status == 200 and OPERATIONS.get(self.route):
            context.progressed()  # what the client gets may tell it the version
            headers.update(self._feedback_id())
        headers.update(context.allowance.headers())
        if self.close_connection:
            headers["connection"] = "close"

    def _feedback_id(self) -> Mapping[str, str]:
        found = self._ids.of(self.context)
        return {} if found is None else {_FEEDBACK_HEADER: found}


def _names(fields: Sequence[str]) -> str:
    """Names for a header; `?` for one that a header cannot hold."""
    shown = [name if _PLAIN_NAME.fullmatch(name) else "?" for name in fields[:_IGNORED_SHOWN]]
    more = ["..."] if len(fields) > _IGNORED_SHOWN else []
    return ", ".join(shown + more)
