"""Responses beside those of vLLM's own handler: the same messages and tools, the same events."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from vllm.entrypoints.generate.base.protocol import DeltaMessage
from vllm.entrypoints.openai.responses.protocol import ResponsesRequest
from vllm.entrypoints.openai.responses.streaming_events import (
    SimpleStreamingEventProcessor,
    split_delta,
)
from vllm.entrypoints.openai.responses.utils import (
    construct_input_messages,
    construct_tool_dicts,
    should_continue_final_message,
)

from service.generation.conversation import ChatStep, Usage
from service.openai.body import read_body
from service.openai.responses_body import ResponseBody
from service.settings.limits import LimitSettings
from tests.openai.test_responses import HI, NOTHING, response, streamed, without_names

TOOL = {"type": "function", "name": "f", "parameters": {"type": "object"}}
ITEMS: list[Any] = [
    {"type": "message", "role": "user", "content": "a"},
    {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "b"}]},
    {"type": "message", "role": "assistant", "content": "c"},
    {
        **{"type": "message", "role": "assistant", "status": "incomplete", "id": "msg_1"},
        "content": [{"type": "output_text", "text": "d", "annotations": []}],
    },
    {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"},
    {"type": "function_call_output", "call_id": "1", "output": "e"},
    {
        **{"type": "reasoning", "id": "rs_1", "summary": [], "status": "incomplete"},
        "content": [{"type": "reasoning_text", "text": "g"}],
    },
    {
        **{"type": "reasoning", "id": "rs_2"},
        "summary": [{"type": "summary_text", "text": "h"}],
    },
]


def in_vllms_form(message: dict[str, Any]) -> dict[str, Any]:
    """A message of vLLM's with what chat templates get of it alone."""
    kept = {
        key: value
        for key, value in message.items()
        if key in ("role", "content", "reasoning", "tool_calls", "tool_call_id")
    }
    if isinstance(kept.get("content"), list):  # vLLM reads both types alike
        kept["content"] = [part | {"type": "text"} for part in kept["content"]]
    return kept


@pytest.mark.parametrize("seed", range(60))
def test_items_become_the_messages_that_vllm_makes_of_them(seed: int) -> None:
    drawn = random.Random(seed)
    items = drawn.choices(ITEMS, k=drawn.randint(1, 12))
    fields: dict[str, Any] = {"model": "m", "input": items, "instructions": "i"}
    chat = read_body(ResponseBody, fields, LimitSettings(), 2048)[0].chat()
    parsed = ResponsesRequest.input_item_parsing({"input": [dict(item) for item in items]})["input"]
    made = construct_input_messages(request_instructions="i", request_input=parsed)
    assert list(chat.messages) == [in_vllms_form(message) for message in made]
    assert chat.continue_final_message == should_continue_final_message(parsed)


@pytest.mark.parametrize("more", [{}, {"description": "d"}, {"strict": True}, {"strict": False}])
def test_tools_become_those_that_vllm_makes_of_them(more: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"model": "m", "input": "a", "tools": [TOOL | more]}
    request = ResponsesRequest(**fields)
    chat = read_body(ResponseBody, fields, LimitSettings(), 2048)[0].chat()
    expected = construct_tool_dicts(request.tools, request.tool_choice)
    assert list(chat.tools) == expected
    assert [[*tool["function"]] for tool in chat.tools] == [
        [*tool["function"]] for tool in expected or ()
    ]


def drawn_deltas(drawn: random.Random) -> Iterator[dict[str, Any]]:
    """Deltas of an answer: a thought, text and calls in any order and in any step."""
    call = -1
    for _ in range(drawn.randint(1, 12)):
        delta: dict[str, Any] = {}
        if drawn.random() < 0.3:
            delta["reasoning"] = "a "
        if drawn.random() < 0.5:
            delta["content"] = "b "
        if drawn.random() < 0.4:
            call += 1
            function = {"name": "f", "arguments": drawn.choice(["", "{"])}
            begun = {"index": call, "id": f"call_{call}", "type": "function", "function": function}
            more = [{"index": call, "function": {"arguments": "}"}}] * drawn.randint(0, 2)
            delta["tool_calls"] = [begun, *more]
        yield delta


@pytest.mark.parametrize("seed", range(60))
def test_a_stream_has_the_events_that_vllm_makes_of_its_deltas(seed: int) -> None:
    deltas = list(drawn_deltas(random.Random(seed)))
    processor = SimpleStreamingEventProcessor()
    expected: list[Any] = []
    for delta in deltas:
        for part in split_delta(DeltaMessage(**delta)):
            state, call = processor.resolve_target_state(part)
            if state.name == "NONE":
                continue
            if processor.needs_transition(state, call):
                expected += [*processor.close_current(), *processor.open(state, call)]
            expected += processor.emit_delta(part, None, lambda _: [])
    expected += processor.close_current()
    steps = [ChatStep(0, delta, NOTHING) for delta in deltas]
    _, _, *events, last = streamed(response(HI), steps, Usage())
    numbered = [
        event.model_dump(mode="json", by_alias=True) | {"sequence_number": number}
        for number, event in enumerate(expected, 2)
    ]
    assert without_names(events) == without_names(numbered)
    output = [item.model_dump(mode="json", by_alias=True) for item in processor.output_items]
    assert without_names(last["response"]["output"]) == without_names(output)
