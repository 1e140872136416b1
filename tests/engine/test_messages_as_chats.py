"""Messages as chats, and their answers, compared with what vLLM's own handler makes of them."""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.entrypoints.anthropic.protocol import AnthropicMessagesRequest
from vllm.entrypoints.anthropic.serving import AnthropicServingMessages

from service.generation.conversation import Usage
from service.openai.body import read_body
from service.plugins.messages.body import MessagesBody
from service.settings.limits import LimitSettings
from tests.plugins.messages.test_answer import plain, step, streamed

TEXT = {"type": "text", "text": "a"}
CALL = {"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1]}}
RESULT = {"type": "tool_result", "tool_use_id": "1", "content": [TEXT, TEXT]}
THOUGHT = {"type": "thinking", "thinking": "a", "signature": "b"}
HIDDEN = {"type": "redacted_thinking", "data": "a"}
BILLED = {"type": "text", "text": "x-anthropic-billing-header: a"}
TOOL = {"name": "f", "description": "d", "input_schema": {"properties": {}}, "strict": True}
FORM = {"type": "json_schema", "schema": {"type": "object"}}

texts = st.sampled_from(["", "a", "b\n", BILLED["text"]])
text_blocks = st.builds(lambda text: {"type": "text", "text": text}, texts)
results = st.builds(lambda held: {**RESULT, "content": held}, texts | st.lists(text_blocks))
user_blocks = text_blocks | results
model_blocks = text_blocks | st.sampled_from([CALL, CALL | {"input": {}}, THOUGHT, HIDDEN])
messages = st.lists(
    st.fixed_dictionaries({"role": st.just("user"), "content": texts | st.lists(user_blocks)})
    | st.fixed_dictionaries(
        {"role": st.just("assistant"), "content": texts | st.lists(model_blocks)}
    )
    | st.fixed_dictionaries({"role": st.just("system"), "content": texts | st.lists(text_blocks)}),
    min_size=1,
    max_size=6,
)
bodies = st.fixed_dictionaries(
    {"messages": messages},
    optional={
        "system": texts | st.lists(text_blocks),
        "tools": st.sampled_from([[TOOL], [TOOL, {"name": "g", "input_schema": {}}]]),
        "tool_choice": st.sampled_from([{"type": "auto"}, {"type": "none"}]),
        "thinking": st.sampled_from(
            [{"type": "enabled", "budget_tokens": 1024}, {"type": "disabled"}, {"type": "adaptive"}]
        ),
        "output_config": st.sampled_from([{"effort": "low"}, {"format": FORM}]),
        "stop_sequences": st.just(["e", "f"]),
        "top_k": st.just(3),
        "chat_template_kwargs": st.just({"enable_thinking": False}),
    },
)


@given(bodies)
def test_a_chat_is_the_one_that_vllm_makes(asked: dict[str, Any]) -> None:
    _compare(asked)


@pytest.mark.parametrize(
    "choice",
    [
        {"type": "any"},
        {"type": "tool", "name": "f"},
        {"type": "any", "disable_parallel_tool_use": True},
        {"type": "auto", "disable_parallel_tool_use": True},
    ],
)
def test_a_choice_of_tools_is_the_one_that_vllm_makes(choice: Any) -> None:
    _compare(
        {"messages": [{"role": "user", "content": "a"}], "tools": [TOOL], "tool_choice": choice}
    )


def _compare(asked: dict[str, Any]) -> None:
    body = asked | {"model": "m", "max_tokens": 2048}
    theirs = AnthropicServingMessages.to_chat_completion_request(
        AnthropicMessagesRequest.model_validate(body), merge_inline_system=True
    )
    ours, _ = read_body(MessagesBody, body, LimitSettings(), 4096)
    chat, sampling = ours.chat(), ours.sampling({})
    # vLLM's models may hold lists as iterators.
    assert list(chat.messages) == json.loads(json.dumps(theirs.messages, default=list))
    assert list(chat.tools) == [tool.model_dump() for tool in theirs.tools or ()]
    if theirs.tools:
        assert chat.tool_choice == _name(theirs.tool_choice)
        assert chat.parallel_tool_calls == theirs.parallel_tool_calls
    # vLLM's word for no reasoning is ours for the least of it.
    effort = {"none": "least"}.get(theirs.reasoning_effort, theirs.reasoning_effort)
    assert chat.reasoning_effort == effort
    assert chat.template_kwargs == (theirs.chat_template_kwargs or {})
    asked_for = theirs.to_sampling_params(2048, {})
    for name in ("temperature", "top_p", "top_k", "min_p", "stop", "thinking_token_budget"):
        assert getattr(asked_for, name) == _listed(getattr(sampling, name)), name
    structure = asked_for.structured_outputs
    assert (structure.json if structure else None) == (
        sampling.structure.json_schema if sampling.structure else None
    )


def _name(choice: Any) -> str:
    return choice if isinstance(choice, str) else f"function:{choice.function.name}"


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


said = st.sampled_from(["", "a", "{", "}", '{"a": 1}'])
called = st.builds(
    lambda index, begins, written: {
        "index": index,
        **({"id": f"c{index}", "type": "function"} if begins else {}),
        "function": {"arguments": written} | ({"name": f"f{index}"} if begins else {}),
    },
    st.integers(0, 2),
    st.booleans(),
    said,
)
deltas = st.fixed_dictionaries(
    {}, optional={"content": said, "reasoning": said, "tool_calls": st.lists(called, max_size=2)}
)


@given(
    st.lists(deltas, max_size=6),
    st.sampled_from(["stop", "length", "tool_calls"]),
    st.sampled_from([None, "x", 7]),
    st.integers(0, 3),
)
def test_events_are_those_that_vllm_makes(
    said: Sequence[dict[str, Any]], finish: str, stop: int | str | None, cached: int
) -> None:
    last: dict[str, Any] = {"finish_reason": finish, "stop_reason": stop, "delta": {}}
    usage = Usage(9, cached, 2, 5)
    ours = streamed([*(step(**delta) for delta in said), step(finish, stop)], usage)
    steps = [*({"delta": delta} for delta in said), last]
    assert ours == plain(asyncio.run(_events(steps, usage)))


async def _events(steps: Iterable[Mapping[str, Any]], usage: Usage) -> list[dict[str, Any]]:
    handler = object.__new__(AnthropicServingMessages)
    stream = handler.message_stream_converter(_chunks(steps, usage))
    return [json.loads(event.partition("data: ")[2]) async for event in stream]


async def _chunks(steps: Iterable[Mapping[str, Any]], usage: Usage) -> AsyncGenerator[str, None]:
    """A chat's events as vLLM's handler gets them of itself."""
    head = {"id": "m", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    counts = {"prompt_tokens": 9, "completion_tokens": 0, "total_tokens": 9}
    first = {"index": 0, "delta": {"role": "assistant", "content": ""}}
    details = {"cached_tokens": usage.cached_tokens, "created_cache_tokens": 2}
    used = counts | {"completion_tokens": 5, "total_tokens": 14, "prompt_tokens_details": details}
    for choices, told in (
        ([first], counts),
        *(([{"index": 0, **each}], counts) for each in steps),
        ([], used),
    ):
        yield f"data: {json.dumps(head | {'choices': choices, 'usage': told})}\n\n"
    yield "data: [DONE]\n\n"
