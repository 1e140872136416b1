"""POST /v1/tokenize and /v1/detokenize, and the paths of vLLM's server for the same."""

from collections.abc import Sequence

from fastapi import APIRouter

from service.api.dependencies import TheContext, TheRuntime
from service.api.json_body import JsonRoute
from service.api.schemas.base import conversation
from service.api.schemas.tokenize import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TokenizeAnswer,
    TokenizeRequest,
    VllmDetokenizeAnswer,
)
from service.context import RequestContext
from service.engine.text_size import size_of
from service.errors import InvalidRequest
from service.runtime.parts import Runtime

_TOKEN_BYTES = 4
"""Bytes that a token stands for, about."""

router = APIRouter(route_class=JsonRoute, tags=["tokenization"])


@router.post("/v1/tokenize")
@router.post("/tokenize")
async def tokenize(
    body: TokenizeRequest, runtime: TheRuntime, context: TheContext
) -> TokenizeAnswer:
    """The token ids that the model would read for a prompt or a conversation.

    `/tokenize` is the path at vLLM's server.
    """
    _choose(body.model, runtime, context)
    tokens = await _tokens(body, runtime)
    most = runtime.engine.model.max_model_len
    return TokenizeAnswer(tokens=tokens, count=len(tokens), max_model_len=most)


@router.post("/v1/detokenize")
async def detokenize(
    body: DetokenizeRequest, runtime: TheRuntime, context: TheContext
) -> DetokenizeAnswer:
    """The text of token ids."""
    return DetokenizeAnswer(text=await _text(body, runtime, context))


@router.post("/detokenize")
async def detokenize_for_vllm(
    body: DetokenizeRequest, runtime: TheRuntime, context: TheContext
) -> VllmDetokenizeAnswer:
    """The text of token ids, as vLLM's server answers."""
    return VllmDetokenizeAnswer(prompt=await _text(body, runtime, context))


def _choose(name: str | None, runtime: Runtime, context: RequestContext) -> None:
    runtime.models.choose(runtime.settings.model.name if name is None else name, context)


async def _tokens(body: TokenizeRequest, runtime: Runtime) -> Sequence[int]:
    engine = runtime.engine
    if body.messages is not None:
        messages = conversation(body.messages, runtime.settings.limits)
        return (await engine.render_chat(messages)).token_ids
    text = body.prompt or ""
    if body.add_special_tokens:
        return (await engine.render(text)).token_ids
    tokens = await engine.prepare(size_of(text), lambda: engine.encode_template(text))
    if len(tokens) > (most := engine.model.max_model_len):
        raise InvalidRequest(f"prompt: at most {most} tokens, got {len(tokens)}", param="prompt")
    return tokens


async def _text(body: DetokenizeRequest, runtime: Runtime, context: RequestContext) -> str:
    _choose(body.model, runtime, context)
    engine = runtime.engine
    size = _TOKEN_BYTES * len(body.tokens)
    return await engine.prepare(size, lambda: engine.decode(body.tokens))
