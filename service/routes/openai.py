"""Chat completions, completions and responses, as OpenAI's; messages, as Anthropic's."""

from collections.abc import Sequence
from functools import partial

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from pydantic_core import to_json

from service.context import RequestContext
from service.engine.contract import Job, Writer
from service.engine.protocol import Adapter, Reading, Sampling, size_of_tokens
from service.errors import UnsupportedFeature
from service.generation.conversation import Conversation
from service.generation.served_model import ServedModel
from service.http.exchange import STREAMED, PushedStream
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.limits.caps import check_prompt_logprobs
from service.openai import responses as openai
from service.openai.answers import ChatCompletion, Completion, InputTokens, ResponseAnswer
from service.openai.chat import ChatBody, ChatEvents, whole_chat
from service.openai.completion import (
    CompletionBody,
    CompletionPrompt,
    stream_completion,
    whole_completion,
)
from service.openai.envelope import Told
from service.openai.messages_answer import MessageAnswer, MessageEvents, TokenCount, message
from service.openai.messages_body import CountTokensBody, MessagesBody
from service.openai.responses_body import ResponseBody
from service.runtime.parts import Runtime, Served

router = APIRouter(route_class=JsonRoute, tags=["openai"])


async def _conversation(
    body: ChatBody | ResponseBody | MessagesBody | CountTokensBody,
    runtime: Runtime,
    context: RequestContext,
    *,
    answered: bool = True,
) -> Conversation:
    """The rendered conversation of a request, once its model is chosen and plugins accept it.

    A conversation that is only counted, not `answered`, is not shown to plugins.
    """
    chosen = runtime.models.choose(body.model, context)
    chosen.check_converses()
    if answered:
        read = partial(body.model_dump, exclude_none=isinstance(body, ResponseBody))
        await runtime.plugins.accept(Served(context, runtime, read))
    model = runtime.base.engine
    sampling = Sampling(max_tokens=None)
    if isinstance(body, ChatBody | ResponseBody | MessagesBody):
        sampling = body.sampling(model.model.sampling_defaults)
    return await Conversation.prepare(model, body.chat(), sampling, chosen.adapter)


@router.post("/v1/chat/completions", response_model=ChatCompletion, responses=STREAMED)
async def chat_completions(body: ChatBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Answer a conversation."""
    conversation = await _conversation(body, runtime, context)
    model = runtime.base.engine
    _check_prompt_logprobs([conversation.job], runtime)
    prompt = conversation.prepared.prompt.token_ids
    prompt_text = await _text(model, prompt) if body.return_prompt_text else None
    told = Told.of(body, model, prompt_text=prompt_text)
    conversation.details = told.details
    conversation.tells_tokens = told.token_ids
    conversation.tells_usage = told.usage_always
    if not body.stream:
        return _json(await whole_chat(conversation, told, context))

    async def write_to(writer: Writer) -> None:
        await conversation.stream(ChatEvents(conversation, told, context, writer), writer)

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
    prompts = await _prompts(body, model, chosen.adapter)
    _check_prompt_logprobs([each.job for each in prompts], runtime)
    told = Told.of(body, model, echo=bool(body.echo), echo_alone=body.only_echoes)
    if not body.stream:
        return _json(await whole_completion(model, prompts, told, context))
    return PushedStream(partial(stream_completion, model, prompts, told, context))


async def _prompts(
    body: CompletionBody, model: ServedModel, adapter: Adapter | None
) -> list[CompletionPrompt]:
    """The prompts of a completion, tokenised; their texts where these are told."""
    sampling = body.sampling(model.model.sampling_defaults)
    reading = Reading(body.add_special_tokens, body.truncate_prompt_tokens, body.truncation_side)
    prompts = []
    for each in body.prompts:
        token_ids = (await model.render(each, reading)).token_ids
        text = ""
        if body.echo:
            text = each if isinstance(each, str) else await _text(model, token_ids)
        prompts.append(CompletionPrompt(Job(token_ids, sampling, adapter), text))
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


@router.post("/v1/responses", response_model=ResponseAnswer, responses=STREAMED)
async def responses(body: ResponseBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Answer a conversation that comes whole with the request; nothing of it is kept."""
    conversation = await _conversation(body, runtime, context)
    conversation.details = body.logprobs is not None
    response = openai.Response.of(body, conversation, runtime.base.engine, context)
    if not body.stream:
        (choice,), usage = await conversation.whole()
        whole = to_json(response.whole(choice, usage))
        return Response(whole, media_type=JSONResponse.media_type)
    events = openai.ResponseStream(response)

    async def write_to(writer: Writer) -> None:
        events.writer = writer
        await conversation.stream(events, writer)

    return PushedStream(write_to, lambda: events.made)


@router.post("/v1/responses/input_tokens", response_model=InputTokens)
async def input_tokens(body: ResponseBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Count the tokens of a conversation without an answer to it."""
    conversation = await _conversation(body, runtime, context, answered=False)
    counted = {"object": "response.input_tokens", "input_tokens": conversation.prompt_tokens}
    return JSONResponse(counted)


anthropic = APIRouter(route_class=JsonRoute, tags=["anthropic"])


@anthropic.post("/v1/messages", response_model=MessageAnswer, responses=STREAMED)
async def messages(body: MessagesBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Answer a conversation."""
    conversation = await _conversation(body, runtime, context)
    name = f"msg_{context.request_id}"
    if not body.stream:
        (choice,), usage = await conversation.whole()
        return _messages_json(message(name, context.model, choice, usage))

    async def write_to(writer: Writer) -> None:
        await conversation.stream(MessageEvents(name, context.model, writer), writer)

    return PushedStream(write_to)


@anthropic.post("/v1/messages/count_tokens", response_model=TokenCount)
async def count_tokens(body: CountTokensBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Count the tokens of a conversation without an answer to it."""
    conversation = await _conversation(body, runtime, context, answered=False)
    return _messages_json(TokenCount(input_tokens=conversation.prompt_tokens))


def _messages_json(answer: MessageAnswer | TokenCount) -> Response:
    return Response(to_json(answer), media_type="application/json")
