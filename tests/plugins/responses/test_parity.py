"""Responses beside those of vLLM's own handler: the same chats, parameters and events."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
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
from service.plugins.responses.body import ResponseBody
from tests.openai.test_parity import CONTEXT, LIMITS, SCHEMA, defaults, optional, params, shown
from tests.plugins.responses.test_answer import HI, NOTHING, response, streamed, without_names

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
    chat = read_body(ResponseBody, fields, LIMITS, CONTEXT)[0].chat()
    parsed = ResponsesRequest.input_item_parsing({"input": [dict(item) for item in items]})["input"]
    made = construct_input_messages(request_instructions="i", request_input=parsed)
    assert list(chat.messages) == [in_vllms_form(message) for message in made]
    assert chat.continue_final_message == should_continue_final_message(parsed)


@pytest.mark.parametrize("more", [{}, {"description": "d"}, {"strict": True}, {"strict": False}])
def test_tools_become_those_that_vllm_makes_of_them(more: dict[str, Any]) -> None:
    fields: dict[str, Any] = {"model": "m", "input": "a", "tools": [TOOL | more]}
    request = ResponsesRequest(**fields)
    chat = read_body(ResponseBody, fields, LIMITS, CONTEXT)[0].chat()
    expected = construct_tool_dicts(request.tools, request.tool_choice)
    assert list(chat.tools) == expected
    assert [[*tool["function"]] for tool in chat.tools] == [
        [*tool["function"]] for tool in expected or ()
    ]


FORMATS = [
    {"type": "text"},
    {"type": "json_object"},
    {"type": "json_schema", "name": "a", "schema": SCHEMA},
]
bodies = st.fixed_dictionaries(
    {"model": st.text(), "input": st.text()},
    optional={name: optional[name] for name in optional.keys() & ResponseBody.model_fields.keys()}
    | {
        "max_output_tokens": st.integers(1, 2 * CONTEXT),
        "include": st.just(["message.output_text.logprobs"]),
        "top_logprobs": st.integers(0, 3),
        "text": st.sampled_from([{"format": each} for each in FORMATS]),
    },
).filter(lambda body: not {"text", "structured_outputs"} <= body.keys())


@given(bodies, defaults)
def test_a_response_is_sampled_as_vllm_would(body: dict[str, Any], default: dict[str, Any]) -> None:
    default.pop("stop_token_ids", None)  # vLLM's own handler forgets those of the model
    stops = body.pop("stop", [])  # the settings' cap stands in the place of vLLM's
    request = ResponsesRequest(**body)
    request.stop = stops
    longest = body.get("max_output_tokens", default.get("max_tokens", CONTEXT))
    theirs = request.to_sampling_params(min(longest, CONTEXT), dict(default))
    read, _ = read_body(ResponseBody, body | {"stop": stops}, LIMITS, CONTEXT)
    assert shown(params(read.sampling(default))) == shown(theirs)


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
