"""Tokens of texts and chats, and texts of tokens: POST /v1/tokenize and /v1/detokenize."""

from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field

from service.context import RequestContext
from service.encoders import add_place
from service.engine.pooling import Pooler
from service.engine.texts import size_of, size_of_tokens
from service.errors import InvalidRequest, UnsupportedFeature
from service.http.bodies import AnswerBody, Many, PromptBody, RequestBody
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.limits.caps import check_text
from service.runtime.parts import Runtime


class TokenizeRequest(PromptBody):
    """Text to tokenise; exactly one of `prompt` and `messages` is set."""

    model: str | None = Field(None, description="Default: the base model.")
    add_special_tokens: bool = Field(
        True, description="Begin a prompt as generation does; a conversation's template decides."
    )
    add_generation_prompt: Literal[True] = True
    return_token_strs: Literal[False] | None = False


class TokenizeAnswer(AnswerBody):
    """The token ids that the model would read."""

    tokens: list[int]
    count: int
    max_model_len: int


class DetokenizeRequest(RequestBody):
    """Token ids to turn into text."""

    model: str | None = Field(None, description="Default: the base model.")
    tokens: Annotated[list[int], Many] = Field(max_length=1 << 17)


class DetokenizeAnswer(AnswerBody):
    """The text, special tokens included."""

    text: str


class VllmDetokenizeAnswer(AnswerBody):
    """The text, in the field that vLLM's server uses."""

    prompt: str


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
        raise InvalidRequest.at("model", "required, as this service has no base model")
    return runtime.settings.model.name


async def _read_by(encoder: Pooler, body: TokenizeRequest, runtime: Runtime) -> TokenizeAnswer:
    """The tokens that an encoder reads for one text."""
    if body.prompt is None:
        raise UnsupportedFeature.at("messages", "an encoder reads a `prompt` only")
    if not body.add_special_tokens:
        raise UnsupportedFeature.at("add_special_tokens", "an encoder always reads them, got false")
    check_text(body.prompt, "prompt", runtime.settings.limits)
    try:
        passage = await encoder.read(body.prompt)
    except InvalidRequest as error:
        raise add_place(error, "prompt") from error
    tokens, most = passage.token_ids, encoder.info.max_model_len
    return TokenizeAnswer(tokens=tokens, count=len(tokens), max_model_len=most)


async def _tokens(body: TokenizeRequest, runtime: Runtime) -> Sequence[int]:
    engine = runtime.base.engine
    if (messages := body.conversation(runtime.settings.limits)) is not None:
        return await engine.render_chat(messages)
    text = body.prompt or ""
    if body.add_special_tokens:
        return await engine.render(text)
    tokens = await engine.prepare(size_of(text), lambda: engine.encode_template(text))
    if len(tokens) > (most := engine.model.max_model_len):
        raise InvalidRequest.at("prompt", f"at most {most} tokens, got {len(tokens)}")
    return tokens


decoding = APIRouter(route_class=JsonRoute, tags=["tokenization"])


@decoding.post("/v1/detokenize")
async def detokenize(
    body: DetokenizeRequest, runtime: TheRuntime, context: TheContext
) -> DetokenizeAnswer:
    """The text of token ids."""
    return DetokenizeAnswer(text=await _text(body, runtime, context))


@decoding.post("/detokenize")
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
