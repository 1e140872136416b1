"""POST /v1/tokenize, and the path of vLLM's server for the same."""

from collections.abc import Sequence

from fastapi import APIRouter

from service.encoders.passages import placed
from service.engine.pooling import Pooler
from service.engine.text_size import size_of
from service.errors import InvalidRequest, UnsupportedFeature
from service.http.bodies import conversation
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.limits.encoder_texts import check_text
from service.routes.bodies.tokenize import TokenizeAnswer, TokenizeRequest
from service.runtime.parts import Runtime

router = APIRouter(route_class=JsonRoute, tags=["tokenization"])


@router.post("/v1/tokenize")
@router.post("/tokenize")
async def tokenize(
    body: TokenizeRequest, runtime: TheRuntime, context: TheContext
) -> TokenizeAnswer:
    """The token ids that the model would read for a prompt or a conversation.

    `/tokenize` is the path at vLLM's server.
    """
    name = _named(body.model, runtime)
    if runtime.models.is_encoder(name):
        return await _read_by(runtime.models.choose_encoder(name, context), body, runtime)
    runtime.models.choose(name, context)
    tokens = await _tokens(body, runtime)
    most = runtime.base.engine.model.max_model_len
    return TokenizeAnswer(tokens=tokens, count=len(tokens), max_model_len=most)


def _named(name: str | None, runtime: Runtime) -> str:
    """The name, or the base model's; InvalidRequest for none where encoders alone are served."""
    if name is not None:
        return name
    if runtime.settings.model is None:
        raise InvalidRequest("model: required, as this service has no base model", param="model")
    return runtime.settings.model.name


async def _read_by(encoder: Pooler, body: TokenizeRequest, runtime: Runtime) -> TokenizeAnswer:
    """The tokens that an encoder reads for one text."""
    if body.prompt is None:
        raise UnsupportedFeature("messages: an encoder reads a `prompt` only", param="messages")
    if not body.add_special_tokens:
        raise UnsupportedFeature(
            "add_special_tokens: an encoder always reads them, got false",
            param="add_special_tokens",
        )
    check_text(body.prompt, "prompt", runtime.settings.limits)
    try:
        passage = await encoder.read(body.prompt)
    except InvalidRequest as error:
        raise placed(error, "prompt") from error
    tokens, most = passage.token_ids, encoder.info.max_model_len
    return TokenizeAnswer(tokens=tokens, count=len(tokens), max_model_len=most)


async def _tokens(body: TokenizeRequest, runtime: Runtime) -> Sequence[int]:
    engine = runtime.base.engine
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
