"""Random bodies of OpenAI's Responses and Anthropic's Messages, and the check of their answers."""

import json
import random
from typing import Any

import httpx

from tests.fuzz.pieces import ODD, broken, text
from tests.fuzz.structures import schema

RESPONSES, MESSAGES, COUNT = "/v1/responses", "/v1/messages", "/v1/messages/count_tokens"
PATHS = (RESPONSES, MESSAGES, COUNT)
_LAST = {RESPONSES: {"response.completed", "response.incomplete"}, MESSAGES: {"message_stop"}}
_FIELDS = {
    RESPONSES: """model input instructions max_output_tokens temperature top_p top_logprobs include
        tools tool_choice parallel_tool_calls text reasoning metadata store stop stream
        previous_response_id background conversation truncation user""".split(),
    MESSAGES: """model messages system max_tokens temperature top_p top_k stop_sequences stream
        tools tool_choice thinking output_config metadata context_management""".split(),
    COUNT: "model messages system tools tool_choice thinking output_config".split(),
}


def body(dice: random.Random, path: str) -> dict[str, Any]:
    """A body for one of the routes: two of three are well formed."""
    made = _response(dice) if path == RESPONSES else _message(dice, path)
    if dice.random() < 0.1:
        _spoil(dice, made)
    return broken(dice, made, _FIELDS[path]) if dice.random() < 1 / 3 else made


def check(response: httpx.Response, path: str) -> None:
    """Raise AssertionError for an incomplete 200: a cut stream, or an answer without content."""
    if path == COUNT:
        assert response.json()["input_tokens"] > 0
    elif response.headers["content-type"].startswith("text/event-stream"):
        _check_stream(response.text, path)
    elif path == MESSAGES:
        answer = response.json()
        assert answer["content"], answer
        assert answer["stop_reason"] in ("end_turn", "max_tokens", "stop_sequence", "tool_use")
    else:
        assert response.json()["status"] in ("completed", "incomplete")


def _check_stream(events: str, path: str) -> None:
    names, data = [], []
    for block in events.removesuffix("\n\n").split("\n\n"):
        name, line = block.split("\n")
        names.append(name.removeprefix("event: "))
        data.append(json.loads(line.removeprefix("data: ")))
    assert [each["type"] for each in data] == names
    if path == RESPONSES:
        assert [each["sequence_number"] for each in data] == list(range(len(data)))
    if names[-1] == "error":
        assert data[-1]["error"]["type"] == "invalid_request_error", data[-1]
    else:
        assert names[-1] in _LAST[path], names[-1]


def _response(dice: random.Random) -> dict[str, Any]:
    made: dict[str, Any] = {"model": "tiny", "max_output_tokens": dice.randint(1, 8)}
    made["input"] = text(dice, 20) or "a"
    if dice.random() < 0.6:
        made["input"] = [_item(dice) for _ in range(dice.randint(1, 5))]
    options = {
        **{"instructions": text(dice, 20), "temperature": dice.choice([0, 1.0, 2.0])},
        **{"stream": True, "stop": [text(dice, 2) or "."], "parallel_tool_calls": False},
        **{"store": False, "reasoning": {"effort": "low"}, "metadata": {"a": text(dice, 3)}},
        **{"include": ["message.output_text.logprobs"], "top_logprobs": dice.randint(0, 5)},
        "tools": [{"type": "function", "name": "f", "parameters": schema(dice, 2)}],
        "text": {"format": {"type": "json_schema", "name": "a", "schema": schema(dice, 2)}},
    }
    return made | {name: value for name, value in options.items() if dice.random() < 0.25}


def _item(dice: random.Random) -> dict[str, Any]:
    said = text(dice, 20) or "a"
    arguments = dice.choice(["{}", '{"a": 1}', "[]", "{", said])
    items: list[dict[str, Any]] = [
        {"role": dice.choice(["user", "system", "developer", "assistant"]), "content": said},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": said}] * 2},
        {
            **{"type": "message", "role": "assistant", "id": "msg_1", "status": "completed"},
            "content": [{"type": "output_text", "text": said, "annotations": []}] * 2,
        },
        {"type": "function_call", "call_id": "1", "name": "f", "arguments": arguments},
        {"type": "function_call_output", "call_id": "1", "output": said},
        {
            **{"type": "function_call_output", "call_id": "1"},
            "output": [{"type": "input_text", "text": said}],
        },
        {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": said}]},
    ]
    return dice.choice(items)


def _message(dice: random.Random, path: str) -> dict[str, Any]:
    roles = [dice.choice(["user", "assistant"]) for _ in range(dice.randint(1, 4))]
    made: dict[str, Any] = {
        "model": "tiny",
        "messages": [{"role": role, "content": _content(dice)} for role in roles],
    }
    tool = {"name": "f", "input_schema": {"type": "object", "properties": {"a": schema(dice, 2)}}}
    form = {"format": {"type": "json_schema", "schema": schema(dice, 2)}}
    options: dict[str, Any] = {
        "system": dice.choice([text(dice, 20), [{"type": "text", "text": text(dice, 20)}]]),
        "tools": [tool],
        "tool_choice": dice.choice([{"type": "auto"}, {"type": "none"}]),
        "thinking": dice.choice([{"type": "disabled"}, {"type": "adaptive"}]),
        "output_config": dice.choice([form, {"effort": "low"}]),
    }
    if path == MESSAGES:
        made["max_tokens"] = dice.randint(1, 8)
        options |= {
            **{"stream": True, "stop_sequences": [text(dice, 2) or "."], "top_k": 40},
            **{"temperature": dice.choice([0, 1.0]), "metadata": {"user_id": "a"}},
        }
    return made | {name: value for name, value in options.items() if dice.random() < 0.25}


def _content(dice: random.Random) -> Any:
    said = text(dice, 20) or "a"
    blocks: list[dict[str, Any]] = [
        {"type": "text", "text": said, "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": said}},
        {"type": "tool_result", "tool_use_id": "1", "content": said},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": said}]},
        {"type": "thinking", "thinking": said, "signature": "a"},
        {"type": "redacted_thinking", "data": "a"},
    ]
    return dice.choice([said, [dice.choice(blocks) for _ in range(dice.randint(0, 3))]])


def _spoil(dice: random.Random, made: Any) -> None:
    """Put an odd value into one place, at any depth."""
    while isinstance(made, dict | list) and made:
        place: Any = dice.choice(list(made) if isinstance(made, dict) else range(len(made)))
        if not isinstance(made[place], dict | list) or dice.random() < 0.2:
            made[place] = dice.choice(ODD)
            return
        made = made[place]
