"""Responses, whole and streamed, of conversations without an engine.

`recorded.json` holds answers that vLLM's own handler made, without their ids and times.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from service.context import internal_context
from service.engine.contract import ModelInfo, Part
from service.engine.texts import PreparedChat, Said, ToolCall
from service.generation.conversation import ChatStep, Choice, Conversation, Usage
from service.openai.body import read_body
from service.plugins.responses.answer import Response, ResponseStream
from service.plugins.responses.body import ResponseBody
from service.settings.limits import LimitSettings
from service.tenants.tenant import Tier


def without_turns(members: dict[str, Any]) -> dict[str, Any]:
    """Usage without vLLM's lists of turns, which OpenAI's agents for Node take for no usage."""
    return {key: each for key, each in members.items() if not key.endswith("_per_turn")}


RECORDED = json.loads(
    Path(__file__).with_name("recorded.json").read_text(), object_hook=without_turns
)
for _each in RECORDED.values():  # OpenAI repeats what was asked, vLLM what came of it
    _each["whole"]["tool_choice"] = _each["body"].get("tool_choice", "auto")
CONTEXT = 2048
MODEL: Any = SimpleNamespace(
    model=ModelInfo("tiny", "", CONTEXT, 8, max_token_chars=8), decode=lambda token_ids: "?"
)
NOTHING = Part(0, "", ())


class Likely:
    """A token, and its log-probability."""

    def __init__(self, told: dict[str, Any]) -> None:
        self.logprob = told["logprob"]
        self.decoded_token = told["token"]


class Written:
    """A client that takes everything."""

    busy = False

    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.on_free: Callable[[], None] = lambda: None

    def write(self, part: bytes) -> None:
        self.parts.append(part)

    async def flush(self) -> None: ...

    def events(self) -> list[dict[str, Any]]:
        """The data of all events, whose names are their types."""
        blocks = b"".join(self.parts).decode().removesuffix("\n\n").split("\n\n")
        named = [block.split("\n") for block in blocks]
        data = [json.loads(line.removeprefix("data: ")) for _, line in named]
        assert [f"event: {each['type']}" for each in data] == [name for name, _ in named]
        return data


def response(body: dict[str, Any], prompt_tokens: int = 9) -> Response:
    """The response to a body."""
    read, _ = read_body(ResponseBody, body, LimitSettings(), CONTEXT)
    prepared = PreparedChat([0] * prompt_tokens, read.sampling({}))
    context = internal_context("1", 60.0)
    context.model, context.tier = "tiny", Tier(body.get("service_tier") or "default")
    conversation = Conversation(MODEL, read.chat(), prepared, None)
    return Response.of(read, conversation, MODEL, context)


def streamed(made: Response, steps: list[ChatStep], usage: Usage) -> list[dict[str, Any]]:
    """The events of a response."""
    stream, written = ResponseStream(made), Written()
    stream.writer = written
    stream.begin(usage)
    for step in steps:
        stream.take(step)
    stream.end()
    return written.events()


def without_names(value: Any) -> Any:
    """A value without ids and times."""
    if isinstance(value, list):
        return [without_names(each) for each in value]
    if not isinstance(value, dict):
        return value
    ids, times = ("id", "item_id", "call_id"), ("created_at",)
    return {
        key: "id" if key in ids else 0 if key in times else without_names(each)
        for key, each in value.items()
    }


def usage_in(told: dict[str, Any]) -> Usage:
    details, made = told["input_tokens_details"], told["output_tokens_details"]
    return Usage(
        told["input_tokens"],
        details["cached_tokens"],
        details["cache_write_tokens"],
        told["output_tokens"],
        made["reasoning_tokens"],
    )


def part_of(logprobs: list[dict[str, Any]] | None) -> Part:
    """The tokens that were told with these log-probabilities."""
    places: list[Any] = [
        dict(enumerate(map(Likely, each["top_logprobs"] or [each]))) for each in logprobs or ()
    ]
    return Part(0, "", [0] * len(places), logprobs=places)


def choice_in(told: dict[str, Any]) -> Choice:
    """The whole answer that a response tells."""
    content, reasoning, logprobs = None, None, None
    calls = []
    for item in told["output"]:
        match item:
            case {"type": "message", "content": [part]}:
                content, logprobs = part["text"], part["logprobs"]
            case {"type": "reasoning", "content": [part]}:
                reasoning = part["text"]
                item["status"] = "completed"  # vLLM says so in streams alone
            case {"type": "function_call"}:
                calls.append(ToolCall(item["call_id"], item["name"], item["arguments"]))
    reason = "length" if told["status"] == "incomplete" else "stop"
    return Choice(0, Said(content, reasoning, calls), part_of(logprobs), reason)


def steps_in(events: list[dict[str, Any]]) -> Iterator[ChatStep]:
    """The steps of an answer that events tell."""
    calls = 0
    for event in events:
        match event:
            case {"type": "response.output_item.added", "item": {"type": "function_call"} as item}:
                function = {"name": item["name"], "arguments": ""}
                call = {"index": calls, "id": "id", "type": "function", "function": function}
                yield ChatStep(0, {"tool_calls": [call]}, NOTHING)
                calls += 1
            case {"type": "response.function_call_arguments.delta", "delta": text}:
                call = {"index": calls - 1, "function": {"arguments": text}}
                yield ChatStep(0, {"tool_calls": [call]}, NOTHING)
            case {"type": "response.reasoning_text.delta", "delta": text}:
                yield ChatStep(0, {"reasoning": text}, NOTHING)
            case {"type": "response.output_text.delta", "delta": text}:
                yield ChatStep(0, {"content": text}, part_of(event["logprobs"]))
    cut = events[-1]["type"] == "response.incomplete"
    yield ChatStep(0, None, NOTHING, "length" if cut else "stop")


@pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED)
def test_a_whole_response_is_the_one_that_vllm_made(recorded: dict[str, Any]) -> None:
    expected, usage = recorded["whole"], usage_in(recorded["whole"]["usage"])
    made = response(recorded["body"], usage.prompt_tokens)
    assert without_names(made.whole(choice_in(expected), usage)) == expected


@pytest.mark.parametrize("recorded", RECORDED.values(), ids=RECORDED)
def test_a_streamed_response_has_the_events_that_vllm_made(recorded: dict[str, Any]) -> None:
    expected = recorded["events"]
    usage = usage_in(expected[-1]["response"]["usage"])
    made = response(recorded["body"], usage.prompt_tokens)
    events = without_names(streamed(made, list(steps_in(expected)), usage))
    for event in expected:
        if "response" in event:  # the fields that are the same in all are told once
            event["response"] = recorded["whole"] | event["response"]
    assert events == expected


def test_details_of_usage_are_numbers_as_openais_agents_take_them() -> None:
    told = response(HI).whole(Choice(0, Said("a", None, []), NOTHING, "stop"), Usage(1, 0, 0, 1, 0))
    for details in ("input_tokens_details", "output_tokens_details"):
        assert {type(each) for each in told["usage"][details].values()} == {int}


HI = {"model": "tiny", "input": "Hi"}


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events[2:-1]]


def test_one_step_may_hold_thoughts_text_and_calls() -> None:
    calls = [
        {"index": 0, "id": "call_1", "function": {"name": "f", "arguments": "{"}},
        {"index": 0, "function": {"arguments": "}"}},
        {"index": 1, "id": "call_2", "function": {"name": "g", "arguments": ""}},
    ]
    delta = {"reasoning": "a", "content": "b", "tool_calls": calls}
    events = streamed(response(HI), [ChatStep(0, delta, NOTHING, "tool_calls")], Usage())
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert kinds(events) == [
        *("output_item.added", "content_part.added", "reasoning_text.delta"),
        *("reasoning_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "content_part.added", "output_text.delta"),
        *("output_text.done", "content_part.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.delta"),
        *("function_call_arguments.done", "output_item.done"),
        *("output_item.added", "function_call_arguments.done", "output_item.done"),
    ]
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == [
        *("reasoning", "message", "function_call", "function_call")
    ]
    assert [item.get("call_id") for item in output[2:]] == ["call_1", "call_2"]
    assert output == [event["item"] for event in events if event["type"].endswith("item.done")]
    assert events[-1]["type"] == "response.completed"


def test_what_is_written_at_once_is_one_part() -> None:
    stream, written = ResponseStream(response(HI)), Written()
    stream.writer = written
    stream.begin(Usage())
    stream.take(ChatStep(0, None, NOTHING))
    stream.take(ChatStep(0, {"content": "a"}, NOTHING))
    stream.end()
    assert len(written.parts) == 3
    assert stream.made == len(written.events())


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, CONTEXT - 9),
        ({"max_output_tokens": 7}, 7),
        ({"max_output_tokens": CONTEXT}, CONTEXT - 9),
    ],
)
def test_the_longest_answer_is_told_as_far_as_it_fits(fields: dict[str, Any], told: int) -> None:
    assert response(HI | fields).shown("in_progress", [], None)["max_output_tokens"] == told


def test_a_logprob_that_json_cannot_hold_is_told_as_a_small_one() -> None:
    asked = {"include": ["message.output_text.logprobs"], "max_output_tokens": 1}
    tokens = [{"token": "\ud83d", "logprob": float("-inf"), "top_logprobs": []}]
    choice = Choice(0, Said("a"), part_of(tokens), "stop")
    (item,) = response(HI | asked).whole(choice, Usage())["output"]
    (told,) = item["content"][0]["logprobs"]
    assert (told["logprob"], told["bytes"]) == (-9999.0, [63])
