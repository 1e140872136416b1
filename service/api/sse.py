"""Server-sent events whose first event decides the status."""

import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import cache
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.error_forms import error_event
from service.context import current_context
from service.errors import ServiceError

_log = logging.getLogger(__name__)

MEDIA_TYPE = "text/event-stream"

STREAMED: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {}}}}
"""Description of a route's answers that says that they may stream."""

DONE = b"data: [DONE]\n\n"


def event(value: object) -> bytes:
    """One event whose data is the value's JSON."""
    return b"data: " + to_json(value) + b"\n\n"


def named_event(name: str, value: object) -> bytes:
    """One event with a name."""
    return b"event: " + name.encode() + b"\n" + event(value)


async def event_stream(events: AsyncGenerator[bytes, None]) -> "EventStream":
    """An answer that streams these events.

    Waits for the first one, so that whatever refuses the request before it raises here and gets
    its own status.
    """
    return EventStream(await anext(events), events)


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
            name, value = error_event(failure, scope["path"], request_id, sent)
            await _send_part(send, self.rendered(name, value))
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if failure is not None:
            raise failure

    def rendered(self, name: str | None, value: object) -> bytes:
        """A part of the answer."""
        return event(value) if name is None else named_event(name, value)


class EventStream(EventResponse):
    """Sends events as they come and closes their source when the answer ends in any way."""

    def __init__(self, first: bytes, events: AsyncGenerator[bytes, None]) -> None:
        super().__init__()
        self._first = first
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self.start)
        failure, sent = None, 1
        async with aclosing(self._events):
            await _send_part(send, self._first)
            try:
                async for part in self._events:
                    await _send_part(send, part)
                    sent += 1
            except Exception as error:
                failure = error
        await self.end(scope, send, failure, sent)


async def _send_part(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})
