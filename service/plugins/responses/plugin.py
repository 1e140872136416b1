"""POST /v1/responses and /v1/responses/input_tokens, as OpenAI's, as a plugin."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse
from pydantic_core import to_json

from service.common.error_forms import ErrorForm
from service.engine.texts import Writer
from service.errors import ServiceError
from service.http.exchange import STREAMED, PushedStream
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.plugin import Plugin
from service.plugins.responses import answer
from service.plugins.responses.body import ResponseBody
from service.plugins.responses.described import InputTokens, ResponseAnswer
from service.routes.openai import Rendered, conversation, rendered

_ROUTE = "/v1/responses"
_COUNT = "/v1/responses/input_tokens"
_RENDER = "/v1/responses/render"

router = APIRouter(route_class=JsonRoute, tags=["openai"])


class NumberedErrors(ErrorForm):
    """Errors that end a stream of numbered events."""

    def event(
        self, error: ServiceError, request_id: str, number: int
    ) -> tuple[str | None, dict[str, Any]]:
        body = self.body(error, request_id)
        shown = {key: body["error"][key] for key in ("code", "message", "param")}
        return "error", {"type": "error", "sequence_number": number, **shown, **body}


class ResponsesPlugin(Plugin):
    """OpenAI's Responses API, stateless: every request carries its whole conversation."""

    routers = (router,)
    operations: ClassVar = {_ROUTE: "chat", _COUNT: None, _RENDER: None}
    needs_model = True
    error_forms: ClassVar = {_ROUTE: NumberedErrors()}
    examples: ClassVar[Mapping[str, Any]] = {
        _ROUTE: {
            "A question": {
                "input": "What is the name of the capital city of Japan?",
                "temperature": 0,
            },
        },
        _COUNT: {"A question": {"input": "What does a cat do?"}},
    }


@router.post("/v1/responses", response_model=ResponseAnswer, responses=STREAMED)
async def responses(body: ResponseBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Answer a conversation that comes whole with the request; nothing of it is kept."""
    asked = await conversation(body, runtime, partial(body.model_dump, exclude_none=True))
    asked.details = body.logprobs is not None
    response = answer.Response.of(body, asked, runtime.base.engine, context)
    if not body.stream:
        (choice,), usage = await asked.whole()
        whole = to_json(response.whole(choice, usage))
        return Response(whole, media_type="application/json")
    events = answer.ResponseStream(response)

    async def write_to(writer: Writer) -> None:
        events.writer = writer
        await asked.stream(events, writer)

    return PushedStream(write_to, lambda: events.made)


@router.post("/v1/responses/input_tokens", response_model=InputTokens)
async def input_tokens(body: ResponseBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Count the tokens of a conversation without an answer to it."""
    asked = await conversation(body, runtime, None)
    counted = {"object": "response.input_tokens", "input_tokens": asked.prompt_tokens}
    return JSONResponse(counted)


@router.post("/v1/responses/render", include_in_schema=False)
async def render(body: ResponseBody, runtime: TheRuntime, context: TheContext) -> Rendered:
    """The tokens that the model would read of a conversation, for routers."""
    return await rendered(body, runtime, context, "resp_", stream=bool(body.stream))
