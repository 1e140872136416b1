"""OpenAI's chat completions, completions and models, by vLLM's own handlers."""

from typing import Annotated, Any

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response

from service.api.dependencies import TheContext, TheRuntime
from service.api.json_body import JsonRoute, ParsedRequest, by_size
from service.api.pushed_stream import PushedStream
from service.api.sse import event_stream
from service.fleet.version import ServedVersion
from service.limits.logprobs import check_logprobs
from service.limits.openai import CHAT_FIELDS, COMPLETION_FIELDS, check_body
from service.limits.prompts import count_prompts
from service.runtime.parts import Runtime
from service.vllm_engine.engine import VllmEngine
from service.vllm_engine.openai import OpenAIAnswer, OpenAISurface
from service.vllm_engine.plain_stream import PlainStream

router = APIRouter(route_class=JsonRoute, tags=["openai"])

OpenAIBody = Annotated[
    dict[str, Any], Body(description="As in OpenAI's API reference; vLLM's handlers answer it.")
]


@router.post("/v1/chat/completions")
async def chat_completions(
    body: OpenAIBody, request: Request, runtime: TheRuntime, context: TheContext
) -> Response:
    """Answer a conversation."""
    await _check(body, CHAT_FIELDS, request, runtime)
    runtime.models.choose(body["model"], context)
    return await _response(await _surface(runtime).chat(body))


@router.post("/v1/completions")
async def completions(
    body: OpenAIBody, request: Request, runtime: TheRuntime, context: TheContext
) -> Response:
    """Continue a prompt."""
    await _check(body, COMPLETION_FIELDS, request, runtime)
    runtime.models.choose(body["model"], context)
    context.parts = count_prompts(body.get("prompt"))
    return await _response(await _surface(runtime).completion(body))


@router.get("/v1/models")
async def models(runtime: TheRuntime, context: TheContext) -> dict[str, Any]:
    """The base model and the adapters that the caller may use."""
    adapters = runtime.models.adapters(context.tenant)
    names = [name for name, entry in adapters.items() if isinstance(entry, ServedVersion)]
    with_base = runtime.models.has_base(context.tenant)
    return {"object": "list", "data": await _surface(runtime).models(names, with_base=with_base)}


async def _check(
    body: dict[str, Any], fields: frozenset[str], request: Request, runtime: Runtime
) -> None:
    limits = runtime.settings.limits
    assert isinstance(request, ParsedRequest)
    await by_size(request.size, check_body, body, fields, limits)
    check_logprobs(body, runtime.engine.model.max_model_len, limits)


async def _response(answer: OpenAIAnswer) -> Response:
    if isinstance(answer, dict):
        return JSONResponse(answer)
    if isinstance(answer, PlainStream):
        return PushedStream(answer.write_to)
    return await event_stream(answer)


def _surface(runtime: Runtime) -> OpenAISurface:
    engine = runtime.engine
    assert isinstance(engine, VllmEngine)
    assert engine.openai is not None
    return engine.openai
