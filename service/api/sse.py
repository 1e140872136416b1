"""Server-sent events whose first event decides the status."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from functools import cache
from typing import Any

from pydantic_core import to_json
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

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


async def event_stream(
    events: AsyncGenerator[bytes, None], part: Callable[[object], bytes] = event
) -> "EventStream":
    """An answer that streams these events; `part` makes one of the body of an error.

    Waits for the first one, so that whatever refuses the request before it raises here and gets
    its own status.
    """
    return EventStream(await anext(events), events, part)


@cache
def _head(media_type: str) -> tuple[tuple[bytes, bytes], ...]:
    """The headers of a stream, which are the same for all of a kind."""
    told = {"cache-control": "no-cache", "x-accel-buffering": "no"}
    response = Response(headers=told, media_type=media_type)
    del response.headers["content-length"]
    return tuple(response.raw_headers)


class EventResponse(Response):
    """Status, headers and end of an answer that streams.

    An error after the first event is sent as a `part` of the one error shape, without `[DONE]`,
    and raised once the answer is complete.
    """

    def __init__(
        self,
        part: Callable[[object], bytes] = event,
        media_type: str = MEDIA_TYPE,
    ) -> None:
        self.status_code = 200
        self.background = None
        self.raw_headers = list(_head(media_type))
        self.start = {
            "type": "http.response.start",
            "status": self.status_code,
            "headers": self.raw_headers,
        }
        self._part = part

    async def end(self, send: Send, error: Exception | None) -> None:
        """Complete the answer; an error at its end is sent and raised."""
        failure = error if isinstance(error, ServiceError | None) else ServiceError()
        if failure is not error:
            _log.error("a stream failed", exc_info=error)
        if failure is not None:
            await _send_part(send, self._part(failure.body(current_context().request_id)))
        await send({"type": "http.response.body", "body": b"", "more_body": False})
        if failure is not None:
            raise failure


class EventStream(EventResponse):
    """Sends events as they come and closes their source when the answer ends in any way."""

    def __init__(
        self,
        first: bytes,
        events: AsyncGenerator[bytes, None],
        part: Callable[[object], bytes] = event,
        media_type: str = MEDIA_TYPE,
    ) -> None:
        super().__init__(part, media_type)
        self._first = first
        self._events = events

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send(self.start)
        failure: Exception | None = None
        async with aclosing(self._events):
            await _send_part(send, self._first)
            try:
                async for part in self._events:
                    await _send_part(send, part)
            except Exception as error:
                failure = error
        await self.end(send, failure)


async def _send_part(send: Send, part: bytes) -> None:
    await send({"type": "http.response.body", "body": part, "more_body": True})
