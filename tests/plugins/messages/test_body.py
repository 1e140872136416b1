"""Bodies of Messages: default deny, a cap on each field, and what is made of them."""

from contextlib import suppress
from typing import Any

import pytest

from service.engine.contract import Structure
from service.errors import InvalidRequest, UnsupportedFeature
from service.openai.body import read_body
from service.plugins.messages.body import ANTHROPIC, CountTokensBody, MessagesBody
from service.settings.limits import LimitSettings

LIMITS = LimitSettings()
CONTEXT = 2048
HI = [{"role": "user", "content": "Hi"}]
TOOL = {"name": "f", "input_schema": {"type": "object"}}
FORM = {"format": {"type": "json_schema", "schema": {}}}


def read(limits: LimitSettings = LIMITS, **fields: Any) -> tuple[MessagesBody, tuple[str, ...]]:
    """A body, and the places of the unknown fields that it came with."""
    return read_body(
        MessagesBody, {"model": "m", "messages": HI, "max_tokens": 9, **fields}, limits, CONTEXT
    )


def message(**fields: Any) -> MessagesBody:
    return read(**fields)[0]


def said(*blocks: Any) -> list[dict[str, Any]]:
    """A conversation of one message in blocks."""
    return [{"role": "user", "content": list(blocks)}]


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 5, "stream": True, "temperature": 0.0, "top_k": 3, "top_p": 0.5},
        {"system": "Be short.", "thinking": {"type": "disabled"}},
        {"system": [{"type": "text", "text": "Be short."}], "messages": HI * 512},
        {"tools": [TOOL] * 128, "tool_choice": {"type": "tool", "name": "f"}},
        {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        {"output_config": {"effort": "low", **FORM}},
        {"stop_sequences": ["x" * 256] * 32},
        {"messages": said({"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1]}})},
        {"messages": said({"type": "tool_result", "tool_use_id": "1", "content": "a"})},
        {"messages": said({"type": "thinking", "thinking": "a", "signature": "b"})},
        {"messages": said({"type": "redacted_thinking", "data": "a"})},
        {"chat_template_kwargs": {"enable_thinking": False}},
    ],
)
def test_what_is_within_the_caps_is_read(fields: dict[str, Any]) -> None:
    body = {"model": "m", "messages": HI, "max_tokens": 9, **fields}
    assert message(**fields).model_dump(exclude_unset=True) == body


@pytest.mark.parametrize(
    ("fields", "param", "text"),
    [
        ({"model": None}, "model", "required"),
        ({"messages": None}, "messages", "required"),
        ({"messages": []}, "messages", "must hold 1..512 entries, got 0"),
        ({"messages": HI * 513}, "messages", "must hold 1..512 entries, got 513"),
        ({"messages": ["Hi"]}, "messages[0]", "must be an object, got 'Hi'"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages[0].role", "'user', 'ass"),
        ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
        (
            {"messages": said({"type": "tool_use", "id": "1", "input": {}})},
            *("messages[0].content[0].name", "required"),
        ),
        (
            {"messages": said(*[{"type": "text", "text": ""}] * 4097)},
            *("messages", "at most 4096 parts of content in all, got 4097"),
        ),
        ({"messages": said(*[{"type": "text", "text": ""}] * 2049) * 2}, "messages", "got 4098"),
        ({"system": [{"type": "text", "text": ""}] * 513}, "system", "0..512 entries, got 513"),
        ({"max_tokens": None}, "max_tokens", "required"),
        ({"max_tokens": "5"}, "max_tokens", "must be an integer, got '5'"),
        ({"max_tokens": 0}, "max_tokens", "must be at least 1, got 0"),
        ({"temperature": -1}, "temperature", "must be at least 0, got -1"),
        ({"top_p": 0}, "top_p", "must be more than 0, got 0"),
        ({"top_k": -2}, "top_k", "must be at least -1, got -2"),
        ({"top_k": 2**70}, "top_k", "an integer must fit into 64 bits"),
        ({"stream": "yes"}, "stream", "must be true or false, got 'yes'"),
        ({"stop_sequences": ["x"] * 33}, "stop_sequences", "must hold 0..32 entries, got 33"),
        ({"stop_sequences": ["x" * 257]}, "stop_sequences[0]", "at most 256 bytes, got 257"),
        ({"stop_sequences": "x"}, "stop_sequences", "must be a list, got 'x'"),
        ({"stop_sequences": [""]}, "stop_sequences[0]", "must not be empty"),
        ({"tools": [TOOL] * 129}, "tools", "at most 128 entries, got 129"),
        ({"tools": ["f"]}, "tools[0]", "must be an object, got 'f'"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema", "required"),
        (
            {"tools": [TOOL, {"name": "g", "input_schema": {"type": "strin"}}]},
            *("tools[1].input_schema", "not a valid JSON schema"),
        ),
        (
            {"tools": [TOOL | {"input_schema": {"title": "x" * 8800}}] * 60},
            *("tools", "at most 524288 bytes, got 528780"),
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice", "any needs tools"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}},
            *("tool_choice", "tool_choice.name: must be one of the tools, got 'g'"),
        ),
        ({"tools": [TOOL], "tool_choice": {"type": "tool"}}, "tool_choice", "got null"),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": 3}}}},
            *("output_config.format.schema", "not a valid JSON schema"),
        ),
        ({"output_config": {"effort": "none"}}, "output_config.effort", "'low', 'medium'"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            *("thinking.budget_tokens", "must be less than max_tokens (9), got 1024"),
        ),
        ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens", "required"),
        (
            {"thinking": {"type": "enabled", "budget_tokens": 7}},
            *("thinking.budget_tokens", "must be at least 1024, got 7"),
        ),
        (
            {"chat_template_kwargs": {"thinking": [1]}},
            *("chat_template_kwargs.thinking", "must be a text, a number"),
        ),
    ],
)
def test_what_is_over_a_cap_or_of_a_wrong_kind_is_refused(
    fields: dict[str, Any], param: str, text: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        message(**fields)
    assert refused.value.param == param
    assert refused.value.message.startswith(param)
    assert text in refused.value.message


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        ({"mcp_servers": [{"url": "http://a"}]}, "mcp_servers", "runs no tools of its own"),
        ({"container": "a"}, "container", "runs no tools of its own"),
        ({"cache_salt": "a"}, "cache_salt", "each tenant has its own"),
        ({"context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]}},
         "context_management", "send what shall be read"),
        ({"output_format": {"type": "json_schema"}}, "output_format", "set output_config.format"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
         "tools[0].type", "must be custom, got 'web_search_20250305'"),
        ({"messages": said({"type": "image", "source": {"type": "url", "url": "http://a"}})},
         "messages[0].content[0].type", "prompts and answers are text"),
        ({"messages": said({"type": "tool_result", "content": [{"type": "image"}]})},
         "messages[0].content[0].content[0].type", "must be text, got 'image'"),
        ({"system": [{"type": "image"}]}, "system[0].type", "must be text, got 'image'"),
        ({"n": 2}, "n", "not a field of this route"),
        ({"messages": [{"role": "user", "content": "a", "name": "b"}]}, "messages[0].name", "not"),
        ({"thinking": {"type": "enabled", "depth": 3}}, "thinking.depth", "not a field"),
    ],
)  # fmt: skip
def test_what_is_not_served_is_refused_by_name(
    fields: dict[str, Any], param: str, reason: str
) -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        message(**fields)
    assert refused.value.param == param
    assert reason in refused.value.message


def test_what_asks_for_nothing_is_left_out() -> None:
    kept = {"type": "ephemeral"}
    nulls = dict.fromkeys({*MessagesBody.model_fields, *ANTHROPIC.refused})
    asked: dict[str, Any] = {
        **nulls,
        **{name: values[-1] for name, values in ANTHROPIC.no_ops.items()},
        "model": "m",
        "max_tokens": 9,
        "metadata": {"user_id": "a"},
        "service_tier": "auto",
        "cache_control": kept,
        "system": [{"type": "text", "text": "a", "cache_control": kept, "citations": None}],
        "tools": [TOOL | {"type": "custom", "cache_control": kept, "eager_input_streaming": True}],
        "messages": said({"type": "text", "text": "b", "cache_control": kept}),
    }
    assert message(**asked).model_dump(exclude_unset=True) == {
        "model": "m",
        "max_tokens": 9,
        "service_tier": "auto",
        "system": [{"type": "text", "text": "a"}],
        "tools": [TOOL | {"type": "custom"}],
        "messages": said({"type": "text", "text": "b"}),
    }


def test_unknown_fields_are_left_out_and_named_where_the_settings_say_so() -> None:
    ignoring = LimitSettings(unknown_fields="ignore")
    body, ignored = read(ignoring, seed=3, messages=[{"role": "user", "content": "a", "id": 1}])
    assert ignored == ("messages[].id", "seed")
    assert body.messages == [{"role": "user", "content": "a"}]


def test_a_count_has_no_fields_of_an_answer() -> None:
    asked: dict[str, Any] = {"model": "m", "messages": HI, "system": "a"}
    count, _ = read_body(CountTokensBody, asked, LIMITS, CONTEXT)
    assert count.chat().messages == [{"role": "system", "content": "a"}, *HI]
    with pytest.raises(UnsupportedFeature, match="max_tokens: not a field of this route"):
        read_body(CountTokensBody, asked | {"max_tokens": 5}, LIMITS, CONTEXT)


@pytest.mark.parametrize("name", sorted(MessagesBody.model_fields.keys() - {"model"}))
@pytest.mark.parametrize("value", [3, "x", [3], [[3]], {"a": 3}, [{"type": 3}], {"type": []}, True])
def test_a_value_of_a_wrong_kind_is_refused_or_read(name: str, value: Any) -> None:
    with suppress(InvalidRequest):  # any other error would be the server's fault
        body = message(**{name: value})
        body.chat()
        body.sampling({})


def test_sampling_is_what_was_asked_for_over_what_the_model_asks_for() -> None:
    defaults = {"temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1, "stop_token_ids": [7]}
    made = message(top_k=3, top_p=0.5, stop_sequences=["a"], output_config=FORM).sampling(defaults)
    assert (made.temperature, made.top_k, made.top_p) == (0.6, 3, 0.5)
    assert (made.repetition_penalty, list(made.stop_token_ids)) == (1.1, [7])
    assert (made.max_tokens, list(made.stop)) == (9, ["a"])
    assert made.structure == Structure(json_schema={}, strict=False)
    assert made.thinking_token_budget is None
    thinking = {"type": "enabled", "budget_tokens": 1024}
    made = message(thinking=thinking, max_tokens=1025).sampling({})
    assert made.thinking_token_budget == 1024
    assert message(temperature=0).sampling({}).temperature == 0
    assert message(max_tokens=10**9).sampling({"max_tokens": 3}).max_tokens == CONTEXT


@pytest.mark.parametrize(
    ("fields", "effort"),
    [
        ({}, None),
        ({"thinking": {"type": "disabled"}}, "least"),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "max"),
        ({"thinking": {"type": "disabled"}, "output_config": {"effort": "max"}}, "least"),
    ],
)
def test_thinking_is_a_matter_of_effort(fields: dict[str, Any], effort: str | None) -> None:
    assert message(**fields).chat().reasoning_effort == effort


@pytest.mark.parametrize(
    ("choice", "told"),
    [
        (None, "auto"),
        ({"type": "auto"}, "auto"),
        ({"type": "any"}, "required"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, "function:f"),
    ],
)
def test_a_choice_of_tools_is_that_of_a_chat(choice: Any, told: str) -> None:
    chat = message(tools=[TOOL], tool_choice=choice).chat()
    assert (chat.tool_choice, chat.parallel_tool_calls) == (told, True)
    assert not message(tools=[], tool_choice={"type": "auto"}).chat().offers_tools
    one = {"type": "any", "disable_parallel_tool_use": True}
    assert not message(tools=[TOOL], tool_choice=one).chat().parallel_tool_calls


THOUGHT = {"type": "thinking", "thinking": "Hm.", "signature": ""}
USED = {"type": "tool_use", "id": "c", "name": "f", "input": {}}


@pytest.mark.parametrize(
    ("content", "goes_on"),
    [
        ("One,", True),
        ([{"type": "text", "text": "One,"}], True),
        ([THOUGHT, {"type": "text", "text": "One,"}], False),
        ([USED], False),
        ([], False),
    ],
)
def test_an_answer_goes_on_from_a_text_of_the_assistant(content: Any, goes_on: bool) -> None:
    chat = message(messages=[*HI, {"role": "assistant", "content": content}]).chat()
    assert chat.continue_final_message is goes_on
    assert chat.add_generation_prompt is not goes_on


def test_a_result_that_the_model_is_said_to_have_given_is_its_text() -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "a"}]}
    chat = message(messages=[*HI, {"role": "assistant", "content": [result]}]).chat()
    assert chat.messages[-1] == {"role": "assistant", "content": "Tool result: a"}
