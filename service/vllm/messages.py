"""Anthropic's Messages as vLLM's handler makes them."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from vllm.entrypoints.anthropic.protocol import (
    AnthropicCountTokensRequest,
    AnthropicMessage,
    AnthropicMessagesRequest,
    AnthropicMessagesResponse,
)
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
)

from service.context import current_context, internal_request
from service.errors import ServiceError
from service.vllm.answers import answered, error_of, parse, streamed
from service.vllm.tool_choice import check_tool_choice, parses_calls

_BEGIN_SECONDS = 60.0

Convert = Callable[..., Any]

_LEAST = [AnthropicMessage(role="user", content="any")]


class Messages:
    """Answers messages and counts their tokens; `begin` must be called first."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    async def begin(self) -> None:
        """Take hold of how vLLM's handler turns messages into chats, and chats into messages."""
        handler = self._handler
        config = handler.engine_client.vllm_config.reasoning_config
        thinks = config is not None and config.enabled
        handler.to_chat_completion_request = chats(handler, thinks=thinks)
        handler.messages_full_converter = _wholes(handler.messages_full_converter)
        handler.message_stream_converter = _streams(handler.message_stream_converter)
        async with internal_request("thinking", _BEGIN_SECONDS):
            # vLLM renders prompts to find how the template switches thinking off, and keeps what
            # it finds, even if the gate refuses: so no tenant's request may be the first.
            await handler._get_disabled_thinking_effort()

    async def create(self, body: dict[str, Any]) -> dict[str, Any] | AsyncGenerator[bytes, None]:
        """Answer a body that was accepted, whole or as server-sent events; raises ServiceError."""
        body = self._chosen(body)
        request = parse(AnthropicMessagesRequest, body, stops="stop_sequences")
        answer = await answered(self._handler.create_messages(request))
        if isinstance(answer, AnthropicMessagesResponse):
            whole: dict[str, Any] = answer.model_dump(exclude_none=True)
            return whole | {"id": _own_id(), "stop_sequence": answer.stop_sequence}
        return _events(answer)

    async def count(self, body: dict[str, Any]) -> dict[str, Any]:
        """The number of tokens of a body that was accepted; raises ServiceError."""
        request = parse(AnthropicCountTokensRequest, self._chosen(body), stops=None)
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


def _own_id() -> str:
    return f"msg_{current_context().request_id}"


def chats(handler: Any, *, thinks: bool) -> Convert:
    """Make chats of messages as vLLM's handler does, and validate them once.

    vLLM would validate the chat as well, and try each part of 4,096 as many types, which holds the
    event loop for tens of milliseconds; and it would count the stops again. A budget of thinking
    is dropped where the engine has no reasoning parser, which alone could apply it.
    """
    convert = handler.to_chat_completion_request

    def chat(request: Any, *, merge_inline_system: bool, **options: Any) -> ChatCompletionRequest:
        messages: list[Any] = []
        merged = {"merge_inline_system": merge_inline_system}
        handler._convert_system_message(request, messages, **merged)
        handler._convert_messages(request.messages, messages, **merged)
        rest = {"messages": _LEAST, "system": None, "stop_sequences": None}
        made: ChatCompletionRequest = convert(request.model_copy(update=rest), **merged, **options)
        made.messages = messages
        made.stop = getattr(request, "stop_sequences", None) or []
        made.request_id = current_context().request_id
        if not thinks:
            made.thinking_token_budget = None
        return made

    return chat


def _wholes(convert: Convert) -> Convert:
    """Make messages of chats; a call that `max_tokens` cut, whose JSON is broken, becomes text."""

    def message(chat: ChatCompletionResponse) -> AnthropicMessagesResponse:
        said = chat.choices[0].message
        cut = [call for call in said.tool_calls if not _is_object(call.function.arguments)]
        if cut:
            said.tool_calls = [call for call in said.tool_calls if call not in cut]
            texts = [said.content or "", *(call.function.arguments for call in cut)]
            said.content = "".join(texts)
        made: AnthropicMessagesResponse = convert(chat)
        return made

    return message


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _streams(convert: Convert) -> Convert:
    """Make events of a chat's chunks; raises its error, which vLLM's events would not tell."""

    async def events(chunks: AsyncGenerator[str, None]) -> AsyncGenerator[str, None]:
        failed: list[ServiceError] = []

        async def sound() -> AsyncGenerator[str, None]:
            async with aclosing(chunks):
                async for chunk in chunks:
                    if chunk.startswith('data: {"error"'):
                        error = json.loads(chunk.removeprefix("data: "))["error"]
                        failed.append(error_of(error))
                        return
                    yield chunk

        async with aclosing(sound()) as source, aclosing(convert(source)) as made:
            async for event in made:
                yield event
        if failed:
            raise failed[0]

    return events


async def _events(stream: AsyncGenerator[str, None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(streamed(stream)) as events:
        async for event in events:
            if event.startswith("event: message_start"):
                event = event.replace(f"chatcmpl-{current_context().request_id}", _own_id(), 1)
            elif event.startswith("event: error"):
                raise ServiceError()
            yield event.encode()
