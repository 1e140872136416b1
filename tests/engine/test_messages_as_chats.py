"""Chats that are made of Anthropic's messages, compared with those that vLLM's handler makes."""

import json
from typing import Any

import pytest
from service.vllm.patches.messages import chats
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages

from service.context import enter_context, internal_context

TEXT = {"type": "text", "text": "a"}
CALL = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1]}}
RESULT = {"type": "tool_result", "tool_use_id": "1", "content": [TEXT, TEXT]}
THOUGHT = {"type": "thinking", "thinking": "a", "signature": "b"}
ASKED: list[Any] = [
    {"messages": [{"role": "user", "content": "a"}]},
    {"messages": [{"role": "user", "content": [TEXT, TEXT]}], "system": [TEXT, TEXT]},
    {
        "messages": [
            {"role": "user", "content": [TEXT]},
            {"role": "assistant", "content": [THOUGHT, TEXT, CALL, CALL]},
            {"role": "user", "content": [RESULT, TEXT, RESULT]},
            {"role": "system", "content": "b"},
        ],
        "system": "c",
        "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}],
        "tool_choice": {"type": "tool", "name": "f"},
        "stop_sequences": ["e", "f"],
        "stream": True,
        "thinking": {"type": "enabled", "budget_tokens": 1024},
        "output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}},
    },
]


@pytest.mark.parametrize("merge_inline_system", [True, False])
@pytest.mark.parametrize("asked", ASKED)
def test_a_chat_is_the_one_that_vllm_makes(asked: Any, merge_inline_system: bool) -> None:
    enter_context(internal_context("chat", 60))
    request = AnthropicMessagesRequest.model_validate(asked | {"model": "m", "max_tokens": 2048})
    make = chats(AnthropicServingMessages, thinks=True)
    ours = make(request, merge_inline_system=merge_inline_system)
    theirs = AnthropicServingMessages.to_chat_completion_request(
        request, merge_inline_system=merge_inline_system
    )
    assert ours.request_id == "chat"
    assert _plain(ours) == _plain(theirs)


def test_the_parts_of_a_message_are_not_validated_again(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    validated = AnthropicServingMessages._build_base_request

    def counted(request: Any, messages: list[Any]) -> Any:
        seen.append(len(messages))
        return validated(request, messages)

    monkeypatch.setattr(AnthropicServingMessages, "_build_base_request", counted)
    enter_context(internal_context("chat", 60))
    request = AnthropicMessagesRequest.model_validate(ASKED[2] | {"model": "m", "max_tokens": 2048})
    made = chats(AnthropicServingMessages, thinks=True)(request, merge_inline_system=False)
    assert seen == [1]
    assert len(made.messages) == 7


def _plain(chat: Any) -> Any:
    """The chat as JSON, whose lists vLLM's models may hold as iterators."""
    fields = {name: value for name, value in chat if name not in ("request_id", "messages")}
    messages = json.loads(json.dumps(chat.messages, default=list))
    return messages, {**fields, "stop": list(chat.stop or [])}
