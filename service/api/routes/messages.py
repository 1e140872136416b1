"""Anthropic's Messages, by vLLM's own handler."""

from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from service.api.dependencies import TheContext, TheRuntime
from service.api.guarded import guard
from service.api.handlers import HandlersBody, surface_to_ask, taken_over
from service.api.json_body import JsonRoute
from service.api.sse import STREAMED, event_stream
from service.limits.anthropic import accept_messages
from service.limits.anthropic_fields import COUNT, MESSAGE

router = APIRouter(route_class=JsonRoute, tags=["anthropic"])


@router.post("/v1/messages", responses=STREAMED)
async def messages(
    body: HandlersBody, request: Request, runtime: TheRuntime, context: TheContext
) -> Response:
    """Answer a conversation."""
    read = await taken_over(partial(accept_messages, shape=MESSAGE), body, request, runtime)
    runtime.models.choose(read["model"], context).check_converses()
    await guard(lambda: read, runtime, context)
    answer = await surface_to_ask(runtime).messages.create(read)
    return JSONResponse(answer) if isinstance(answer, dict) else await event_stream(answer)


@router.post("/v1/messages/count_tokens")
async def count_tokens(
    body: HandlersBody, request: Request, runtime: TheRuntime, context: TheContext
) -> dict[str, Any]:
    """Count the tokens of a conversation without an answer to it."""
    read = await taken_over(partial(accept_messages, shape=COUNT), body, request, runtime)
    runtime.models.choose(read["model"], context).check_converses()
    return await surface_to_ask(runtime).messages.count(read)
