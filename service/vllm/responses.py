"""OpenAI's Responses as vLLM's handler makes them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, get_args

from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)
from vllm.entrypoints.openai.responses.protocol import (
    ResponseCompletedEvent,
    ResponsesRequest,
    ResponsesResponse,
    StreamingResponsesResponse,
)

from service.context import current_context
from service.vllm.answers import answered, parse, streamed
from service.vllm.tool_choice import check_tool_choice, parses_calls

_OPENING = 3
"""Events up to the first that the engine has answered for: vLLM makes two before it asks."""


class Responses:
    """Responses, each made whole from its own request: none is kept."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    @staticmethod
    def begin() -> None:
        """Build the validators of items and events, which pydantic leaves to their first use.

        There they would hold the event loop for up to 0.4 s.
        """
        items = (
            *(ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText),
            ResponseReasoningItem,
        )
        for kind in (*items, *get_args(StreamingResponsesResponse)):
            kind.model_rebuild()

    async def create(self, body: dict[str, Any]) -> dict[str, Any] | AsyncGenerator[bytes, None]:
        """Answer a body that was accepted, whole or as server-sent events; raises ServiceError."""
        readable = parses_calls(self._handler)
        check_tool_choice(body.get("tool_choice", "auto"), readable=readable)
        context = current_context()
        own = {"request_id": f"resp_{context.request_id}", "service_tier": context.tier}
        request = parse(ResponsesRequest, body | own | {"input": ""})
        # The items were checked. vLLM's model would try each as thirty types, for 0.1 s in all.
        request.input = ResponsesRequest.input_item_parsing({"input": body["input"]})["input"]
        answer = await answered(self._handler.create_responses(request))
        if isinstance(answer, ResponsesResponse):
            whole: dict[str, Any] = answer.model_dump(mode="json", by_alias=True)
            return whole | {"store": False}
        return _events(answer)


async def _events(
    stream: AsyncGenerator[StreamingResponsesResponse, None],
) -> AsyncGenerator[bytes, None]:
    async with aclosing(streamed(stream)) as events:
        opening = [await anext(events) for _ in range(_OPENING)]
        for event in opening:
            yield _event(event)
        async for event in events:
            yield _event(event)


def _event(event: StreamingResponsesResponse) -> bytes:
    """One event; vLLM says `completed` of a response that its maximum cut, too."""
    name: str = event.type
    if isinstance(event, ResponseCompletedEvent) and event.response.status == "incomplete":
        name = "response.incomplete"
        event = event.model_copy(update={"type": name})
    data = event.model_dump_json(by_alias=True, warnings=False)
    return f"event: {name}\ndata: {data}\n\n".encode()
