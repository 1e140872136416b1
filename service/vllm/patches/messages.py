"""How vLLM turns Anthropic's messages into chats and chats into messages, without its faults."""

import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Any

from vllm.entrypoints.anthropic.protocol import AnthropicMessage, AnthropicMessagesResponse
from vllm.entrypoints.openai.chat_completion.protocol import (
    ChatCompletionRequest,
    ChatCompletionResponse,
)
from vllm.entrypoints.serve.engine.protocol import ErrorResponse

from service.context import current_context
from service.errors import ServiceError
from service.vllm.answers import error_of
from service.vllm.patches import Patch

PATCH = Patch(
    "vLLM validates a message twice on the event loop, and fails at a call that its maximum cut",
)
USES = (
    "reads vllm.entrypoints.anthropic.serving:AnthropicServingMessages._convert_messages",
    "reads vllm.entrypoints.anthropic.serving:AnthropicServingMessages._convert_system_message",
    "replaces vllm.entrypoints.anthropic.serving:AnthropicServingMessages.message_stream_converter",
    "replaces vllm.entrypoints.anthropic.serving:AnthropicServingMessages.messages_full_converter",
    "replaces vllm.entrypoints.anthropic.serving:"
    "AnthropicServingMessages.to_chat_completion_request",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

Convert = Callable[..., Any]

_LEAST = [AnthropicMessage(role="user", content="any")]


def convert_without_faults(handler: Any) -> None:
    """Put converters of ours in the places of a handler's own."""
    config = handler.engine_client.vllm_config.reasoning_config
    thinks = config is not None and config.enabled
    handler.to_chat_completion_request = chats(handler, thinks=thinks)
    handler.messages_full_converter = _wholes(handler.messages_full_converter)
    handler.message_stream_converter = _streams(handler.message_stream_converter)


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
    """Make events of a chat's chunks; raises its error, which vLLM's events would not tell.

    The chunks are texts of events, or the objects that these are made of.
    """

    async def events(chunks: AsyncGenerator[Any, None]) -> AsyncGenerator[str, None]:
        failed: list[ServiceError] = []

        async def sound() -> AsyncGenerator[Any, None]:
            async with aclosing(chunks):
                async for chunk in chunks:
                    if (error := _error(chunk)) is not None:
                        failed.append(error_of(error))
                        return
                    yield chunk

        async with aclosing(sound()) as source, aclosing(convert(source)) as made:
            async for event in made:
                yield event
        if failed:
            raise failed[0]

    return events


def _error(chunk: Any) -> dict[str, Any] | None:
    """The error that a chat's chunk tells, if it tells one."""
    if isinstance(chunk, ErrorResponse):
        error: dict[str, Any] = chunk.error.model_dump()
        return error
    if isinstance(chunk, str) and chunk.startswith('data: {"error"'):
        error = json.loads(chunk.removeprefix("data: "))["error"]
        return error
    return None
