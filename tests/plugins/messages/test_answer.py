"""Answers of Messages, whole and streamed, compared with those recorded of vLLM's handler."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from service.engine.contract import Part
from service.engine.texts import Said, ToolCall
from service.generation.conversation import ChatStep, Choice, Usage
from service.plugins.messages.answer import MessageAnswer, MessageEvents, message

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).parent / "recorded.json").read_text(encoding="utf-8")
)
"""Bodies, the steps of their chats, and what was answered, by vLLM 0.32's handlers."""
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}


class Written:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.on_free = lambda: None
        self.busy = False
        self.parts: list[bytes] = []

    def write(self, part: bytes) -> None:
        self.parts.append(part)

    async def flush(self) -> None: ...

    @property
    def events(self) -> list[dict[str, Any]]:
        """The data of the events, whose names are those of their types."""
        blocks = b"".join(self.parts).decode().removesuffix("\n\n").split("\n\n")
        found = [block.removeprefix("event: ").split("\ndata: ") for block in blocks]
        data = [json.loads(text) for _, text in found]
        assert [name for name, _ in found] == [each["type"] for each in data]
        return data


def step(
    finish_reason: str | None = None, stop_reason: int | str | None = None, **delta: Any
) -> ChatStep:
    return ChatStep(0, delta or None, Part(0, "", [1], None, stop_reason), finish_reason)


def arguments(text: str, index: int = 0) -> dict[str, Any]:
    """More arguments of a call."""
    return {"index": index, "function": {"arguments": text}}


def streamed(steps: Iterable[ChatStep], usage: Usage | None = None) -> list[dict[str, Any]]:
    """The events of an answer, with known signatures."""
    writer = Written()
    events = MessageEvents("msg_1", "m", writer)
    events.begin(usage or Usage(prompt_tokens=9))
    for each in steps:
        events.take(each)
    events.end()
    told: list[dict[str, Any]] = plain(writer.events)
    return told


def answer(said: Said, finish: str, stop: int | str | None = None) -> MessageAnswer:
    part = Part(0, "", [1], finish, stop)
    return message("msg_1", "m", Choice(0, said, part, finish), Usage(prompt_tokens=9))


def plain(value: Any) -> Any:
    """A value with the same ids and signatures as any other."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, dict):
        return value
    return {
        key: "same" if key in ("id", "signature", "model") else plain(each)
        for key, each in value.items()
    }


def usage_of(told: dict[str, int]) -> Usage:
    cached, created = told["cache_read_input_tokens"], told["cache_creation_input_tokens"]
    prompt = told["input_tokens"] + cached + created
    return Usage(prompt, cached, created, told["output_tokens"])


@pytest.mark.parametrize("name", RECORDED)
def test_events_are_those_that_were_recorded(name: str) -> None:
    recorded = RECORDED[name]
    steps = [
        step(each.get("finish_reason"), each.get("stop_reason"), **each["delta"])
        for each in recorded["steps"]
    ]
    usage = usage_of(recorded["events"][-2]["usage"])
    assert usage.prompt_tokens == recorded["tokens"]
    assert streamed(steps, usage) == plain(recorded["events"])


@pytest.mark.parametrize("name", RECORDED)
def test_whole_answers_are_those_that_were_recorded(name: str) -> None:
    recorded = RECORDED[name]
    chat, told = recorded["chat"], recorded["message"]
    said = Said(chat["content"], chat["reasoning"], [ToolCall(**each) for each in chat["calls"]])
    part = Part(0, "", [1], None, chat["stop_reason"])
    choice = Choice(0, said, part, chat["finish_reason"])
    made = message("msg_1", "m", choice, usage_of(told["usage"]))
    assert plain(made) == plain(told)


def test_text_beside_a_call_comes_after_it() -> None:
    steps = [
        step(reasoning="a"),
        step(content="b"),
        step(tool_calls=[CALL]),
        step(content="c", tool_calls=[arguments("{}")]),
        step(content="d"),
        step("tool_calls", tool_calls=[CALL | {"index": 1, "id": "c2"}, arguments("{", 1)]),
    ]
    events = streamed(steps)
    assert [
        (each["index"], (each.get("content_block") or each.get("delta") or {"type": ""})["type"])
        for each in events[1:-2]
    ] == [
        *((0, "thinking"), (0, "thinking_delta"), (0, "signature_delta"), (0, "")),
        *((1, "text"), (1, "text_delta"), (1, "")),
        *((2, "tool_use"), (2, "input_json_delta"), (2, "")),
        *((3, "text"), (3, "text_delta"), (3, "")),
        *((4, "tool_use"), (4, "input_json_delta"), (4, "")),
    ]
    assert events[12]["delta"] == {"type": "text_delta", "text": "cd"}
    assert events[-2]["delta"] == {"stop_reason": "tool_use", "stop_sequence": None}


@pytest.mark.parametrize(
    ("finish", "stop", "written", "told"),
    [
        ("stop", None, "{}", ("tool_use", None)),
        ("stop", "x", "{}", ("tool_use", None)),
        ("stop", "x", '{"a": "', ("stop_sequence", "x")),
        ("stop", 7, '{"a": "', ("tool_use", None)),
        ("length", None, "{}", ("max_tokens", None)),
        ("tool_calls", None, "", ("tool_use", None)),
    ],
)
def test_a_call_that_a_stop_cut_must_not_run(
    finish: str, stop: int | str | None, written: str, told: tuple[str, str | None]
) -> None:
    steps = [step(tool_calls=[CALL]), step(tool_calls=[arguments(written)]), step(finish, stop)]
    delta = streamed(steps)[-2]["delta"]
    assert (delta["stop_reason"], delta["stop_sequence"]) == told


def test_a_whole_call_that_was_cut_becomes_text() -> None:
    calls = [
        ToolCall("1", "f", '{"a": null}'),
        ToolCall("2", "g", '{"a": '),
        ToolCall("3", "h", "3"),
    ]
    made = answer(Said("b", None, calls), "length")
    assert made["content"] == [
        {"type": "text", "text": 'b{"a": 3'},
        {"type": "tool_use", "id": "1", "name": "f", "input": {"a": None}},
    ]
    assert (made["stop_reason"], made["stop_sequence"]) == ("max_tokens", None)


def test_an_answer_without_a_word_is_an_empty_text() -> None:
    made = answer(Said(None), "stop", "x")
    assert made["content"] == [{"type": "text", "text": ""}]
    assert (made["stop_reason"], made["stop_sequence"]) == ("stop_sequence", "x")
    assert [each["type"] for each in streamed([step("stop")])] == [
        *("message_start", "message_delta", "message_stop")
    ]


def test_usage_tells_cached_tokens_apart() -> None:
    usage = Usage(100, 64, None, 7, reasoning_tokens=3)
    events = streamed([step("stop", content="a")], usage)
    assert events[0]["message"]["usage"] == {"input_tokens": 100, "output_tokens": 0}
    told = {"input_tokens": 36, "output_tokens": 7, "cache_read_input_tokens": 64}
    assert events[-2]["usage"] == told
    usage.created_tokens = 16
    events = streamed([step("stop", content="a")], usage)
    assert events[-2]["usage"] == told | {"input_tokens": 20, "cache_creation_input_tokens": 16}
