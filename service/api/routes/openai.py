"""OpenAI's chat completions, completions and models, by vLLM's own handlers."""

from collections.abc import AsyncGenerator
from functools import partial
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response

from service.api.dependencies import runtime_of
from service.api.direct_route import DirectRoute
from service.api.guarded import guard
from service.api.handlers import HandlersBody, surface_to_ask, taken_over
from service.api.pushed_stream import PushedStream
from service.api.sse import STREAMED, event_stream
from service.context import current_context
from service.limits.logprobs import check_logprobs
from service.limits.openai import accept
from service.limits.openai_fields import CHAT, COMPLETION
from service.limits.prompts import count_prompts
from service.limits.shape import Shape
from service.runtime.parts import Runtime
from service.vllm.openai import OpenAIAnswer

router = APIRouter(route_class=DirectRoute, tags=["openai"])


@router.post("/v1/chat/completions", responses=STREAMED)
async def chat_completions(body: HandlersBody, request: Request) -> Response:
    """Answer a conversation."""
    runtime, context = runtime_of(request), current_context()
    read = await _accept(body, CHAT, request, runtime)
    runtime.models.choose(read["model"], context).check_converses()
    await guard(lambda: read, runtime, context)
    return await _response(await surface_to_ask(runtime).chat(read))


@router.post("/v1/completions", responses=STREAMED)
async def completions(body: HandlersBody, request: Request) -> Response:
    """Continue a prompt."""
    runtime, context = runtime_of(request), current_context()
    read = await _accept(body, COMPLETION, request, runtime)
    runtime.models.choose(read["model"], context)
    await guard(lambda: read, runtime, context)
    context.parts = count_prompts(read.get("prompt"))
    return await _response(await surface_to_ask(runtime).completion(read))


async def _accept(
    body: dict[str, Any], shape: Shape, request: Request, runtime: Runtime
) -> dict[str, Any]:
    read = await taken_over(partial(accept, shape=shape), body, request, runtime)
    check_logprobs(read, runtime.base.engine.model.max_model_len, runtime.settings.limits)
    return read


async def _response(answer: OpenAIAnswer) -> Response:
    if isinstance(answer, bytes):
        return Response(answer, media_type=JSONResponse.media_type)
    if isinstance(answer, dict):
        return JSONResponse(answer)
    if isinstance(answer, AsyncGenerator):
        return await event_stream(answer)
    return PushedStream(answer.write_to)
