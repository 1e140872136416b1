"""OpenAI's Responses, by vLLM's own handler."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from service.api.dependencies import TheContext, TheRuntime
from service.api.guarded import guard
from service.api.handlers import HandlersBody, surface_to_ask, taken_over
from service.api.json_body import JsonRoute
from service.api.sse import STREAMED, event_stream, named_event
from service.limits.responses import accept_response

router = APIRouter(route_class=JsonRoute, tags=["openai"])


@router.post("/v1/responses", responses=STREAMED)
async def responses(
    body: HandlersBody, request: Request, runtime: TheRuntime, context: TheContext
) -> Response:
    """Answer a conversation that comes whole with the request; nothing of it is kept."""
    read = await taken_over(accept_response, body, request, runtime)
    runtime.models.choose(read["model"], context).check_converses()
    await guard(lambda: read, runtime, context)
    answer = await surface_to_ask(runtime).responses.create(read)
    if isinstance(answer, dict):
        return JSONResponse(answer)
    numbered = _Numbered(answer)
    return await event_stream(numbered.events(), numbered.error_event)


class _Numbered:
    """A stream of numbered events, with the event of an error at its place."""

    def __init__(self, source: AsyncGenerator[bytes, None]) -> None:
        self._source = source
        self._sent = 0

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The events, whose numbers begin at 0."""
        async with aclosing(self._source):
            async for event in self._source:
                yield event
                self._sent += 1

    def error_event(self, body: Any) -> bytes:
        """The event of an error's body."""
        shown = {key: body["error"][key] for key in ("code", "message", "param")}
        numbered = {"type": "error", "sequence_number": self._sent, **shown, **body}
        return named_event("error", numbered)
