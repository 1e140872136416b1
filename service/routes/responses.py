"""OpenAI's Responses."""

from functools import partial

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic_core import to_json

from service.context import current_context
from service.engine.writer import Writer
from service.generation.conversation import Conversation
from service.http.json_routes import DirectRoute, runtime_of
from service.http.streams import STREAMED, PushedStream
from service.openai import responses as openai
from service.openai.answers import InputTokens, ResponseAnswer
from service.openai.responses_body import ResponseBody
from service.runtime.parts import Served

router = APIRouter(route_class=DirectRoute, tags=["openai"])


@router.post("/v1/responses", response_model=ResponseAnswer, responses=STREAMED)
async def responses(body: ResponseBody, request: Request) -> Response:
    """Answer a conversation that comes whole with the request; nothing of it is kept."""
    runtime, context = runtime_of(request), current_context()
    chosen = runtime.models.choose(body.model, context)
    chosen.check_converses()
    read = partial(body.model_dump, exclude_none=True)
    await runtime.plugins.accept(Served(context, runtime, read))
    model = runtime.base.engine
    sampling = body.sampling(model.model.sampling_defaults)
    conversation = await Conversation.prepare(model, body.chat(), sampling, chosen.adapter)
    conversation.details = body.logprobs is not None
    response = openai.Response.of(body, conversation, model, context)
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
async def input_tokens(body: ResponseBody, request: Request) -> Response:
    """Count the tokens of a conversation without an answer to it."""
    runtime, context = runtime_of(request), current_context()
    chosen = runtime.models.choose(body.model, context)
    chosen.check_converses()
    model = runtime.base.engine
    sampling = body.sampling(model.model.sampling_defaults)
    conversation = await Conversation.prepare(model, body.chat(), sampling, chosen.adapter)
    counted = {"object": "response.input_tokens", "input_tokens": conversation.prompt_tokens}
    return JSONResponse(counted)
