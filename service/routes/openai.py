"""Chat completions and completions, as OpenAI's."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Protocol

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

from service.adapters.choice import ChosenModel
from service.context import RequestContext, current_context
from service.engine.contract import Job, Sampling
from service.engine.texts import Chat, Reading, Writer, size_of_tokens
from service.errors import UnsupportedFeature
from service.generation.conversation import Conversation
from service.generation.served_model import ServedModel
from service.http.bodies import AnswerBody
from service.http.exchange import STREAMED, PushedStream
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.limits.caps import check_prompt_logprobs
from service.openai.answers import ChatCompletion, Completion
from service.openai.chat import ChatBody, ChatEvents, whole_chat
from service.openai.completion import (
    CompletionBody,
    CompletionPrompt,
    stream_completion,
    whole_completion,
)
from service.openai.envelope import Told
from service.runtime.parts import Runtime, Served

router = APIRouter(route_class=JsonRoute, tags=["openai"])


class ChatRequest(Protocol):
    """The body of a conversation, in any API."""

    model: str

    def chat(self) -> Chat:
        """The conversation."""

    def sampling(self, defaults: Mapping[str, Any]) -> Sampling:
        """How to sample the answer; `defaults` are the model's own."""


async def conversation(
    body: ChatRequest, runtime: Runtime, read: Callable[[], Mapping[str, Any]] | None
) -> Conversation:
    """The rendered conversation of a request, once its model is chosen and plugins accept it.

    With `read` plugins inspect the body; they do not see a conversation whose tokens are only
    counted.
    """
    context = current_context()
    chosen = runtime.models.choose(body.model, context)
    chosen.check_converses()
    if read is not None:
        await runtime.plugins.accept(Served(context, runtime, read))
    model = runtime.base.engine
    sampling = body.sampling(chosen.sampling(model.model.sampling_defaults))
    return await Conversation.prepare(model, body.chat(), sampling, chosen.adapter)


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAMED)
async def chat_completions(body: ChatBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Answer a conversation."""
    asked = await conversation(body, runtime, body.model_dump)
    model = runtime.base.engine
    _check_prompt_logprobs([asked.job], runtime)
    prompt = asked.prepared.prompt
    prompt_text = await _text(model, prompt) if body.return_prompt_text else None
    prompt_ids = prompt if body.return_token_ids else None
    told = Told.of(body, model, prompt_text=prompt_text, prompt_ids=prompt_ids)
    if asked.hides_tokens:
        told = replace(told, logprobs=None, token_ids=False)
    asked.details = told.details
    asked.tells_tokens = told.token_ids
    asked.tells_usage = told.usage_always
    if not body.stream:
        return _json(await whole_chat(asked, told, context))

    async def write_to(writer: Writer) -> None:
        await asked.stream(ChatEvents(asked, told, context, writer), writer)

    return PushedStream(write_to)


@router.post("/v1/completions", response_model=Completion, responses=STREAMED)
async def completions(body: CompletionBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Continue a prompt."""
    chosen = runtime.models.choose(body.model, context)
    await runtime.plugins.accept(Served(context, runtime, body.model_dump))
    if body.suffix is not None:
        raise UnsupportedFeature.at(
            "suffix", "not served; write the model's own tokens for filling in into the prompt"
        )
    context.parts = body.prompt_count
    model = runtime.base.engine
    prompts = await _prompts(body, model, chosen)
    _check_prompt_logprobs([each.job for each in prompts], runtime)
    told = Told.of(body, model, echo=bool(body.echo), echo_alone=body.only_echoes)
    if not body.stream:
        return _json(await whole_completion(model, prompts, told, context))
    return PushedStream(partial(stream_completion, model, prompts, told, context))


class Rendered(AnswerBody):
    """What the model would read, in the form of vLLM's server; nothing is generated."""

    request_id: str
    model: str
    token_ids: Sequence[int]
    stream: bool


async def rendered(
    body: ChatRequest, runtime: Runtime, context: RequestContext, prefix: str, *, stream: bool
) -> Rendered:
    """The tokens of a conversation; plugins do not see it, as it is not answered."""
    asked = await conversation(body, runtime, None)
    name = f"{prefix}{context.request_id}"
    return Rendered(
        request_id=name, model=body.model, token_ids=asked.prepared.prompt, stream=stream
    )


@router.post("/v1/chat/completions/render", include_in_schema=False)
async def render_chat(body: ChatBody, runtime: TheRuntime, context: TheContext) -> Rendered:
    """The tokens that the model would read of a conversation, for routers."""
    return await rendered(body, runtime, context, "chatcmpl-", stream=bool(body.stream))


@router.post("/v1/completions/render", include_in_schema=False)
async def render_completion(
    body: CompletionBody, runtime: TheRuntime, context: TheContext
) -> list[Rendered]:
    """The tokens that the model would read of each prompt, for routers."""
    chosen = runtime.models.choose(body.model, context)
    silent = body.model_copy(update={"echo": False})
    found = await _prompts(silent, runtime.base.engine, chosen)
    name = f"cmpl-{context.request_id}"
    return [
        Rendered(
            request_id=name if len(found) == 1 else f"{name}-{index}",
            model=body.model,
            token_ids=each.job.prompt,
            stream=bool(body.stream),
        )
        for index, each in enumerate(found)
    ]


async def _prompts(
    body: CompletionBody, model: ServedModel, chosen: ChosenModel
) -> list[CompletionPrompt]:
    """The prompts of a completion, tokenised; their texts where these are told."""
    sampling = body.sampling(chosen.sampling(model.model.sampling_defaults))
    reading = Reading(body.add_special_tokens, body.truncate_prompt_tokens, body.truncation_side)
    prompts = []
    for each in body.prompts:
        token_ids = await model.render(each, reading)
        text = ""
        if body.echo:
            text = each if isinstance(each, str) else await _text(model, token_ids)
        prompts.append(CompletionPrompt(Job(token_ids, sampling, adapter=chosen.adapter), text))
    return prompts


async def _text(model: ServedModel, token_ids: Sequence[int]) -> str:
    """The text of tokens, made in the tenant's fair turn."""
    return await model.prepare(size_of_tokens(token_ids), partial(model.decode, token_ids))


def _check_prompt_logprobs(jobs: list[Job], runtime: Runtime) -> None:
    """Raise InvalidRequest for too many log-probabilities of the request's prompts."""
    total = sum(
        job.sampling.n * len(job.prompt) * (1 + job.sampling.prompt_logprobs)
        for job in jobs
        if job.sampling.prompt_logprobs is not None
    )
    if total:
        limits = runtime.settings.limits
        if not runtime.base.engine.model.echoes:
            limits = limits.model_copy(update={"echo_logprobs": 0})
        check_prompt_logprobs(total, limits)


def _json(body: bytes) -> Response:
    return Response(body, media_type=JSONResponse.media_type)
