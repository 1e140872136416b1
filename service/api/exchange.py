"""One request and its answer, as the ASGI server passes them."""

import re
import time
from collections.abc import Mapping, Sequence
from urllib.parse import quote as percent_encoded

from pydantic_core import to_json
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.api import anthropic
from service.context import Ending, RequestContext
from service.errors import ServiceError
from service.feedback.answer_ids import AnswerIds
from service.operations import OPERATIONS

ID_HEADER = "x-request-id"
TIMEOUT_HEADER = "x-request-timeout-ms"
_TRACE_HEADER = "traceresponse"
_IGNORED_HEADER = "x-ignored-fields"
_FLAGGED_HEADER = "x-guard-flagged"
_FEEDBACK_HEADER = "x-feedback-id"
_IGNORED_SHOWN = 16
_PLAIN_NAME = re.compile(r"[A-Za-z0-9_.\[\]-]{1,64}")


class Exchange:
    """Parts of a request, how far its answer is, how it ends, and the headers of every answer.

    `status` is None until the answer has started; `blocked_since` is the time from which the client
    has taken nothing of it, None while nothing waits to be taken.
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
            headers[ID_HEADER] = self.context.request_id
            if self.scope["path"] in anthropic.PATHS:
                headers[anthropic.ID_HEADER] = self.context.request_id
            if self.context.trace:
                headers[_TRACE_HEADER] = self.context.trace.response_header
            if self.context.ignored_fields:
                headers[_IGNORED_HEADER] = _names(self.context.ignored_fields)
            if self.context.guard_flags:
                headers[_FLAGGED_HEADER] = ", ".join(map(percent_encoded, self.context.guard_flags))
            if self.status == 200 and OPERATIONS.get(self.route):
                headers.update(self._feedback_id())
            headers.update(self.context.allowance.headers())
            if self.close_connection:
                headers["connection"] = "close"
        elif message["type"] == "http.response.body":
            self.complete = not message.get("more_body", False)
        self.blocked_since = time.monotonic()
        try:
            await self._send(message)
        finally:
            self.blocked_since = None

    def _feedback_id(self) -> Mapping[str, str]:
        found = self._ids.of(self.context)
        return {} if found is None else {_FEEDBACK_HEADER: found}

    async def fail(self, error: ServiceError, send: Send | None = None) -> None:
        """End the request with an error: it is the answer unless one has begun, sent by `send`."""
        # Tracebacks hold the request, body and all, which holds the error.
        self._error = error.with_traceback(None)
        error.__cause__ = error.__context__ = None
        if not self.started:
            body = error.body(self.context.request_id)
            if self.scope["path"] in anthropic.PATHS:
                body = anthropic.error_body(body)
            answer = Response(
                to_json(body), error.status, error.headers(), media_type="application/json"
            )
            await answer(self.scope, self.receive, send or self.send)


def _names(fields: Sequence[str]) -> str:
    """Names for a header; `?` for one that a header cannot hold."""
    shown = [name if _PLAIN_NAME.fullmatch(name) else "?" for name in fields[:_IGNORED_SHOWN]]
    more = ["..."] if len(fields) > _IGNORED_SHOWN else []
    return ", ".join(shown + more)
