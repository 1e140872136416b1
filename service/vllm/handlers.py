"""OpenAI's Responses and Anthropic's Messages as vLLM's handlers make them."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, get_args

from openai.types.responses import (
    ResponseFunctionToolCall,
    ResponseOutputMessage,
    ResponseOutputText,
    ResponseReasoningItem,
)
from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessagesRequest,
    AnthropicMessagesResponse,
)
from vllm.entrypoints.openai.responses.protocol import (
    ResponseCompletedEvent,
    ResponsesRequest,
    ResponsesResponse,
    StreamingResponsesResponse,
)

from service.context import current_context, internal_request
from service.errors import ServiceError
from service.limits.anthropic_fields import COUNT, MESSAGE
from service.limits.responses_fields import RESPONSE
from service.vllm.answers import answered, check_fields, lacking, parse, streamed
from service.vllm.patches.messages import convert_without_faults
from service.vllm.tool_calls import check_tool_choice, parses_calls

USES = (
    "reads vllm.entrypoints.anthropic.serving:"
    "AnthropicServingMessages._get_disabled_thinking_effort until 0.33.0",
    "calls vllm.entrypoints.anthropic.serving:AnthropicServingMessages.count_tokens",
    "calls vllm.entrypoints.anthropic.serving:AnthropicServingMessages.create_messages",
    "reads vllm.entrypoints.openai.responses.protocol:ResponsesRequest.input_item_parsing",
    "calls vllm.entrypoints.openai.responses.serving:OpenAIServingResponses.create_responses",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_OPENING = 3
"""Events up to the first that the engine has answered for: vLLM makes two before it asks."""
_BEGIN_SECONDS = 60.0


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
        check_fields(ResponsesRequest, body, RESPONSE)
        context = current_context()
        own = {"request_id": f"resp_{context.request_id}", "service_tier": context.tier}
        request = parse(ResponsesRequest, body | own | {"input": ""})
        # The items were checked. vLLM's model would try each as thirty types, for 0.1 s in all.
        request.input = ResponsesRequest.input_item_parsing({"input": body["input"]})["input"]
        answer = await answered(self._handler.create_responses(request))
        if isinstance(answer, ResponsesResponse):
            whole: dict[str, Any] = answer.model_dump(mode="json", by_alias=True)
            return whole | {"store": False}
        return _response_events(answer)


async def _response_events(
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


class Messages:
    """Answers messages and counts their tokens; `begin` must be called first."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    async def begin(self) -> None:
        """Take hold of how vLLM's handler turns messages into chats, and chats into messages."""
        handler = self._handler
        convert_without_faults(handler)
        async with internal_request("thinking", _BEGIN_SECONDS):
            # vLLM renders prompts to find how the template switches thinking off, and keeps what
            # it finds, even if the gate refuses: so no tenant's request may be the first.
            await _find_effort(handler)

    async def create(self, body: dict[str, Any]) -> dict[str, Any] | AsyncGenerator[bytes, None]:
        """Answer a body that was accepted, whole or as server-sent events; raises ServiceError."""
        body = self._chosen(body)
        check_fields(AnthropicMessagesRequest, body, MESSAGE)
        request = parse(AnthropicMessagesRequest, body, stops="stop_sequences")
        answer = await answered(self._handler.create_messages(request))
        if isinstance(answer, AnthropicMessagesResponse):
            whole: dict[str, Any] = answer.model_dump(exclude_none=True)
            return whole | {"id": _own_id(), "stop_sequence": answer.stop_sequence}
        return _message_events(answer)

    async def count(self, body: dict[str, Any]) -> dict[str, Any]:
        """The number of tokens of a body that was accepted; raises ServiceError."""
        body = self._chosen(body)
        if ignored := lacking(AnthropicCountTokensRequest, body, COUNT):
            context = current_context()
            context.ignored_fields = (*context.ignored_fields, *ignored)
        request = parse(AnthropicCountTokensRequest, body, stops=None)
        answer = await answered(self._handler.count_tokens(request))
        return {"input_tokens": answer.input_tokens}

    def _chosen(self, body: dict[str, Any]) -> dict[str, Any]:
        """The body, with `tool_choice` none if it offers tools and calls cannot be found."""
        choice = body.get("tool_choice", {"type": "auto"})
        kind = choice.get("type") if isinstance(choice, dict) else choice
        readable = parses_calls(self._handler)
        check_tool_choice(kind, readable=readable)
        if body.keys() & {"tools", "tool_choice"} and not readable:
            return body | {"tool_choice": {"type": "none"}}
        return body


async def _find_effort(handler: Any) -> None:
    resolver = getattr(handler, "disabled_thinking_effort_resolver", None)
    if resolver is None:  # up to 0.32
        await handler._get_disabled_thinking_effort()
        return
    least = {"model": "any", "max_tokens": 1, "messages": [{"role": "user", "content": "any"}]}
    await resolver.resolve_for(AnthropicMessagesRequest(**least, thinking={"type": "disabled"}))


def _own_id() -> str:
    return f"msg_{current_context().request_id}"


async def _message_events(stream: AsyncGenerator[str, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(streamed(stream)) as events:
        async for event in events:
            if event.startswith("event: message_start"):
                event = event.replace(f"chatcmpl-{current_context().request_id}", _own_id(), 1)
            elif event.startswith("event: error"):
                raise ServiceError()
            yield event.encode()
