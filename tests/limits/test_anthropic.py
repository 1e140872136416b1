"""The fields of Messages' bodies: default deny, and a cap on each."""

from contextlib import suppress
from typing import Any

import pytest

from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.anthropic import accept_messages
from service.limits.anthropic_fields import COUNT, MESSAGE, NO_OPS, REFUSED
from service.limits.fields import Accepted
from service.limits.shape import Shape
from service.settings.limits import LimitSettings
from tests.limits.test_openai import places

LIMITS = LimitSettings()
CONTEXT = 2048
HI = [{"role": "user", "content": "Hi"}]
TOOL = {"name": "f", "input_schema": {"type": "object"}}


def message(limits: LimitSettings = LIMITS, shape: Shape = MESSAGE, **fields: Any) -> Accepted:
    """A body as vLLM gets it."""
    body = {"model": "m", "messages": HI, **fields}
    return accept_messages(body, shape, limits, CONTEXT)


def said(*blocks: Any) -> list[dict[str, Any]]:
    """A conversation of one message in blocks."""
    return [{"role": "user", "content": list(blocks)}]


@pytest.mark.parametrize(
    "fields",
    [
        {"max_tokens": 5, "stream": True, "temperature": 0, "top_k": 3, "top_p": 0.5},
        {"system": "Be short.", "thinking": {"type": "disabled"}},
        {"system": [{"type": "text", "text": "Be short."}], "messages": HI * 512},
        {"tools": [TOOL] * 64, "tool_choice": {"type": "tool", "name": "f"}},
        {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
        {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": {}}}},
        {"stop_sequences": ["x" * 256] * 32},
        {"messages": said({"type": "tool_use", "id": "1", "name": "f", "input": {"a": [1]}})},
        {"messages": said({"type": "tool_result", "tool_use_id": "1", "content": "a"})},
        {"messages": said({"type": "thinking", "thinking": "a", "signature": "b"})},
        {"messages": said({"type": "redacted_thinking", "data": "a"})},
    ],
)
def test_what_is_within_the_caps_passes_unchanged(fields: dict[str, Any]) -> None:
    assert message(**fields).body == {"model": "m", "messages": HI, **fields}


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"model": None}, "model: required, a string, got null"),
        ({"messages": None}, "messages: must be a list, got null"),
        ({"messages": []}, r"messages: must hold 1\.\.512 entries, got 0"),
        ({"messages": HI * 513}, r"messages: must hold 1\.\.512 entries, got 513"),
        ({"messages": ["Hi"]}, r"messages\[0\]: must be an object, got 'Hi'"),
        (
            {"messages": said(*[{"type": "text", "text": ""}] * 4097)},
            "^messages: at most 4096 parts.*4097",
        ),
        ({"messages": said(*[{"type": "text", "text": ""}] * 2049) * 2}, "at most 4096.*4098"),
        ({"system": [{"type": "text", "text": ""}] * 513}, r"system: must hold 1\.\.512 entries"),
        ({"max_tokens": "5"}, "max_tokens: must be an integer, got '5'"),
        ({"stop_sequences": ["x"] * 33}, "stop_sequences: at most 32 entries, got 33"),
        ({"stop_sequences": ["x" * 257]}, "stop_sequences: at most 256 bytes, got 257"),
        ({"stop_sequences": "x"}, "stop_sequences: must be a list, got 'x'"),
        ({"stop_sequences": [""]}, "stop_sequences: must be a text or a list of texts"),
        ({"tools": [TOOL] * 65}, "tools: at most 64 entries, got 65"),
        ({"tools": ["f"]}, r"tools\[0\]: must be an object, got 'f'"),
        ({"tools": [{"name": "f"}]}, r"tools\[0\].input_schema: must be a JSON schema object"),
        (
            {"tools": [TOOL, {"name": "g", "input_schema": {"type": "strin"}}]},
            r"tools\[1\].input_schema: not a valid JSON schema",
        ),
        (
            {"tools": [TOOL | {"input_schema": {"title": "x" * 1100}}] * 60},
            "^tools: at most 65536 bytes, got 66780",
        ),
        ({"tool_choice": {"type": "any"}}, "tool_choice: any needs tools"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}},
            "tool_choice.name: must be one of the tools, got 'g'",
        ),
        (
            {"output_config": {"format": {"type": "json_schema", "schema": {"type": 3}}}},
            "output_config.format.schema: not a valid JSON schema",
        ),
        ({"top_k": 2**70}, "top_k: an integer must fit into 64 bits"),
        ({"chat_template_kwargs": {"thinking": [1]}}, "chat_template_kwargs.thinking: must be"),
    ],
)
def test_what_is_over_a_cap_or_of_a_wrong_kind_is_refused(
    fields: dict[str, Any], text: str
) -> None:
    with pytest.raises(InvalidRequest, match=text) as refused:
        message(**fields)
    assert refused.value.param in places(refused.value.message)


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
    nulls = dict.fromkeys({*MESSAGE, *REFUSED} - {"model", "messages"})
    asked: dict[str, Any] = {
        **nulls,
        **{name: values[-1] for name, values in NO_OPS.items()},
        "metadata": {"user_id": "a"},
        "service_tier": "auto",
        "cache_control": kept,
        "system": [{"type": "text", "text": "a", "cache_control": kept, "citations": None}],
        "tools": [TOOL | {"type": "custom", "cache_control": kept, "eager_input_streaming": True}],
        "messages": said({"type": "text", "text": "b", "cache_control": kept}),
    }
    assert message(**asked).body == {
        "model": "m",
        "system": [{"type": "text", "text": "a"}],
        "tools": [TOOL | {"type": "custom"}],
        "messages": said({"type": "text", "text": "b"}),
    }


def test_an_answer_longer_than_the_context_is_asked_for_as_long_as_that() -> None:
    assert message(max_tokens=10**9).body["max_tokens"] == CONTEXT
    assert message(max_tokens=7).body["max_tokens"] == 7


def test_a_count_has_no_fields_of_an_answer() -> None:
    assert message(shape=COUNT, system="a").body.keys() == {"model", "messages", "system"}
    with pytest.raises(UnsupportedFeature, match="max_tokens: not a field of this route"):
        message(shape=COUNT, max_tokens=5)


def test_unknown_fields_are_left_out_and_named_where_the_settings_say_so() -> None:
    ignoring = LimitSettings(unknown_fields="ignore")
    accepted = message(ignoring, seed=3, messages=[{"role": "user", "content": "a", "id": 1}])
    assert accepted.ignored == ("messages[].id", "seed")
    assert accepted.body["messages"] == [{"role": "user", "content": "a"}]


@pytest.mark.parametrize("name", sorted(MESSAGE.keys() - {"model"}))
@pytest.mark.parametrize("value", [3, "x", [3], [[3]], {"a": 3}, [{"type": 3}], {"type": []}, True])
def test_a_value_of_a_wrong_kind_is_refused_or_left_to_the_engines_model(
    name: str, value: Any
) -> None:
    with suppress(InvalidRequest):  # any other error would be the server's fault
        message(**{name: value})
