"""Anthropic's Messages."""

from fastapi import APIRouter, Request
from fastapi.responses import Response
from pydantic_core import to_json

from service.context import current_context
from service.engine.protocol import Sampling
from service.engine.writer import Writer
from service.generation.conversation import Conversation
from service.http.json_routes import DirectRoute, runtime_of
from service.http.streams import STREAMED, PushedStream
from service.openai.messages_answer import MessageAnswer, MessageEvents, TokenCount, message
from service.openai.messages_body import CountTokensBody, MessagesBody
from service.runtime.parts import Served

router = APIRouter(route_class=DirectRoute, tags=["anthropic"])


@router.post("/v1/messages", response_model=MessageAnswer, responses=STREAMED)
async def messages(body: MessagesBody, request: Request) -> Response:
    """Answer a conversation."""
    runtime, context = runtime_of(request), current_context()
    chosen = runtime.models.choose(body.model, context)
    chosen.check_converses()
    await runtime.plugins.accept(Served(context, runtime, body.model_dump))
    model = runtime.base.engine
    sampling = body.sampling(model.model.sampling_defaults)
    conversation = await Conversation.prepare(model, body.chat(), sampling, chosen.adapter)
    name = f"msg_{context.request_id}"
    if not body.stream:
        (choice,), usage = await conversation.whole()
        return _json(message(name, context.model, choice, usage))

    async def write_to(writer: Writer) -> None:
        await conversation.stream(MessageEvents(name, context.model, writer), writer)

    return PushedStream(write_to)


@router.post("/v1/messages/count_tokens", response_model=TokenCount)
async def count_tokens(body: CountTokensBody, request: Request) -> Response:
    """Count the tokens of a conversation without an answer to it."""
    runtime = runtime_of(request)
    chosen = runtime.models.choose(body.model, current_context())
    chosen.check_converses()
    model, sampling = runtime.base.engine, Sampling(max_tokens=None)
    conversation = await Conversation.prepare(model, body.chat(), sampling, chosen.adapter)
    return _json(TokenCount(input_tokens=conversation.prompt_tokens))


def _json(answer: MessageAnswer | TokenCount) -> Response:
    return Response(to_json(answer), media_type="application/json")
