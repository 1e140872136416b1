"""POST /v1/tokenize and /v1/detokenize."""

from fastapi import APIRouter

from service.api.dependencies import TheContext, TheRuntime
from service.api.json_body import JsonRoute
from service.api.schemas.base import conversation
from service.api.schemas.tokenize import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TokenizeAnswer,
    TokenizeRequest,
)

_TOKEN_BYTES = 4
"""Bytes that a token stands for, about."""

router = APIRouter(route_class=JsonRoute, tags=["tokenization"])


@router.post("/v1/tokenize")
async def tokenize(
    body: TokenizeRequest, runtime: TheRuntime, context: TheContext
) -> TokenizeAnswer:
    """The token ids that the model would read for a prompt or a conversation."""
    runtime.models.choose(body.model, context)
    if body.messages is not None:
        messages = conversation(body.messages, runtime.settings.limits)
        prompt = await runtime.engine.render_chat(messages)
    else:
        prompt = await runtime.engine.render(body.prompt or "")
    return TokenizeAnswer(
        tokens=prompt.token_ids,
        count=len(prompt.token_ids),
        max_model_len=runtime.engine.model.max_model_len,
    )


@router.post("/v1/detokenize")
async def detokenize(
    body: DetokenizeRequest, runtime: TheRuntime, context: TheContext
) -> DetokenizeAnswer:
    """The text of token ids."""
    runtime.models.choose(body.model, context)
    engine = runtime.engine
    size = _TOKEN_BYTES * len(body.tokens)
    return DetokenizeAnswer(text=await engine.prepare(size, lambda: engine.decode(body.tokens)))
