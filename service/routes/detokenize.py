"""POST /v1/detokenize, and the path of vLLM's server for the same."""

from fastapi import APIRouter

from service.context import RequestContext
from service.engine.text_size import size_of_tokens
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.routes.bodies.tokenize import DetokenizeAnswer, DetokenizeRequest, VllmDetokenizeAnswer
from service.runtime.parts import Runtime

router = APIRouter(route_class=JsonRoute, tags=["tokenization"])


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


async def _text(body: DetokenizeRequest, runtime: Runtime, context: RequestContext) -> str:
    engine = runtime.base.engine
    runtime.models.choose(engine.model.name if body.model is None else body.model, context)
    size = size_of_tokens(body.tokens)
    return await engine.prepare(size, lambda: engine.decode(body.tokens))
