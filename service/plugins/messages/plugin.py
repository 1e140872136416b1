"""POST /v1/messages and /v1/messages/count_tokens, as Anthropic's, as a plugin."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from fastapi import APIRouter, Response
from pydantic_core import to_json

from service.common.error_forms import ErrorForm
from service.engine.texts import Writer
from service.errors import ServiceError
from service.http.bodies import AnswerBody, ErrorDetail
from service.http.exchange import STREAMED, PushedStream
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.plugin import Plugin
from service.plugins.messages.answer import MessageAnswer, MessageEvents, TokenCount, message
from service.plugins.messages.body import CountTokensBody, MessagesBody
from service.routes.openai import Rendered, conversation, rendered

_ROUTE = "/v1/messages"
_COUNT = "/v1/messages/count_tokens"
_RENDER = "/v1/messages/render"
_TYPES = {"internal_error": "api_error", "unavailable_error": "overloaded_error"}
_TYPES_BY_CODE = {"payload_too_large": "request_too_large"}

router = APIRouter(route_class=JsonRoute, tags=["anthropic"])


class AnthropicErrorBody(AnswerBody):
    """The shape of errors on the paths of Anthropic's API."""

    type: Literal["error"]
    error: ErrorDetail
    request_id: str


class AnthropicErrors(ErrorForm):
    """Anthropic's form of errors, with the fields of the service's own form added."""

    id_header = "request-id"
    schema = AnthropicErrorBody

    def body(self, error: ServiceError, request_id: str) -> dict[str, Any]:
        shown: dict[str, Any] = super().body(error, request_id)["error"]
        kind = _TYPES_BY_CODE.get(shown["code"], _TYPES.get(shown["type"], shown["type"]))
        return {"type": "error", "error": shown | {"type": kind}, "request_id": request_id}

    def event(
        self, error: ServiceError, request_id: str, number: int
    ) -> tuple[str | None, dict[str, Any]]:
        return "error", self.body(error, request_id)


class MessagesPlugin(Plugin):
    """Anthropic's Messages API, stateless: every request carries its whole conversation."""

    routers = (router,)
    operations: ClassVar[Mapping[str, str | None]] = {
        _ROUTE: "chat",
        _COUNT: None,
        _RENDER: None,
    }
    needs_model = True
    error_forms: ClassVar = dict.fromkeys(operations, AnthropicErrors())
    examples: ClassVar[Mapping[str, Any]] = {
        _ROUTE: {
            "A conversation": {
                "max_tokens": 32,
                "temperature": 0,
                "system": [{"type": "text", "text": "You are a helpful assistant."}],
                "messages": [
                    {"role": "user", "content": "What is the name of the capital city of Japan?"}
                ],
            },
        },
        _COUNT: {"A conversation": {"messages": [{"role": "user", "content": "Say hello."}]}},
    }


@router.post("/v1/messages", response_model=MessageAnswer, responses=STREAMED)
async def messages(body: MessagesBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Answer a conversation."""
    asked = await conversation(body, runtime, body.model_dump)
    name = f"msg_{context.request_id}"
    if not body.stream:
        (choice,), usage = await asked.whole()
        return _json(message(name, context.model, choice, usage))

    async def write_to(writer: Writer) -> None:
        await asked.stream(MessageEvents(name, context.model, writer), writer)

    return PushedStream(write_to)


@router.post("/v1/messages/count_tokens", response_model=TokenCount)
async def count_tokens(body: CountTokensBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Count the tokens of a conversation without an answer to it."""
    asked = await conversation(body, runtime, None)
    return _json(TokenCount(input_tokens=asked.prompt_tokens))


@router.post("/v1/messages/render", include_in_schema=False)
async def render(body: MessagesBody, runtime: TheRuntime, context: TheContext) -> Rendered:
    """The tokens that the model would read of a conversation, for routers."""
    return await rendered(body, runtime, context, "msg_", stream=bool(body.stream))


def _json(answer: MessageAnswer | TokenCount) -> Response:
    return Response(to_json(answer), media_type="application/json")
