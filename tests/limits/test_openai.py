"""The fields of OpenAI's bodies: default deny, and a cap on each."""

from contextlib import suppress
from typing import Any

import pytest

from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.openai import CHAT_FIELDS, COMPLETION_FIELDS, check_body
from service.settings.tree import LimitSettings

LIMITS = LimitSettings()
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def called(arguments: str) -> list[dict[str, Any]]:
    """A conversation in which a tool was called."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": [call]}]


def said(*parts: Any) -> list[dict[str, Any]]:
    """A conversation of one message in parts."""
    return [{"role": "user", "content": list(parts)}]


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": called('{"a": [1, "b"]}')},
        {"messages": called("not JSON")},
        {"messages": said({"type": "text", "text": "Hi"}, {"type": "refusal", "refusal": "No"})},
        {"messages": called("[" * 64 + "]" * 64)},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}, 3]}]},
        {"messages": [{"role": "user", "content": "Hi"}] * 512, "n": 16, "top_logprobs": 20},
        {"logprobs": True, "stop": ["x" * 256] * 8, "bad_words": ["y"] * 64},
        {"stop": None, "bad_words": None, "tools": None, "n": None, "response_format": None},
        {"logit_bias": {str(token): 1 for token in range(300)}, "stop_token_ids": [1] * 64},
        {"tools": [TOOL] * 64, "metadata": {}, "store": False},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"choice": ["a"] * 256}},
        {"structured_outputs": {"regex": "a+"}},
    ],
)
def test_what_is_within_the_caps_passes(fields: dict[str, Any]) -> None:
    check_body({"model": "m", **fields}, CHAT_FIELDS, LIMITS)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": 17}, r"n: must be 1\.\.16, got 17"),
        ({"n": 1.5}, r"n: must be 1\.\.16, got 1.5"),
        ({"n": "2"}, r"n: must be 1\.\.16, got '2'"),
        ({"n": 10**400}, "got an integer of 1329 bits"),
        ({"top_logprobs": 21}, r"top_logprobs: must be 0\.\.20, got 21"),
        ({"max_tokens": "16"}, "max_tokens: must be an integer, got '16'"),
        ({"max_completion_tokens": 16.0}, "max_completion_tokens: must be an integer, got 16.0"),
        ({"logprobs": 1}, "logprobs: must be true or false, got 1"),
        ({"messages": None}, "messages: must be a list, got null"),
        ({"messages": 5}, "messages: must be a list, got 5"),
        ({"messages": []}, "messages: at least 1"),
        ({"messages": said("Hi")}, r"messages\[0\].content\[0\]: must be a part of type text or"),
        ({"messages": said({"type": "text", "text": 3})}, "that holds text, got 'text'"),
        ({"messages": said({"text": "Hi"})}, "that holds text, got an object of 1 keys"),
        ({"messages": said(*[{"type": "text", "text": ""}] * 4097)}, "at most 4096 parts.*4097"),
        ({"messages": called("[" * 3000)}, r"messages\[1\].tool_calls\[0\].*deeper than 64"),
        ({"messages": called("[" * 65 + "]" * 65)}, "arguments: nested deeper than 64"),
        ({"messages": called('{"a": "\\ud800"}')}, "arguments: must not hold lone surrogates"),
        ({"messages": called("9" * 5000)}, "arguments: must not hold integers of thousands"),
        ({"stop": ["x"] * 9}, "stop: at most 8 entries, got 9"),
        ({"stop": "x" * 257}, "stop: at most 256 bytes, got 257"),
        ({"stop": ["é" * 129]}, "stop: at most 256 bytes, got 258"),
        ({"bad_words": ["x"] * 65}, "bad_words: at most 64 entries, got 65"),
        ({"bad_words": ["x" * 257]}, "bad_words: at most 256 bytes, got 257"),
        ({"bad_words": ["9" * 250] * 5}, "bad_words: at most 512 bytes together, got 1250"),
        ({"stop_token_ids": [1] * 65}, "stop_token_ids: at most 64 entries, got 65"),
        ({"allowed_token_ids": [1] * 1025}, "allowed_token_ids: at most 1024 entries, got 1025"),
        ({"logit_bias": {str(t): 1 for t in range(301)}}, "logit_bias: at most 300.*got 301"),
        ({"messages": [{}] * 513}, "messages: at most 512 entries, got 513"),
        ({"tools": [TOOL] * 65}, "tools: at most 64 entries, got 65"),
        (
            {"tools": [TOOL, {"function": {"parameters": {"type": "strin"}}}]},
            r"tools\[1\].function.parameters: not a valid JSON schema",
        ),
        (
            {"tools": [{"function": {"parameters": {"title": "x" * 1100}}}] * 60},
            "tools: at most 65536 bytes, got 66780",
        ),
        (
            {"tools": [{"function": {"parameters": {"pattern": "[a-z]{300}"}}}] * 2},
            "tools: patterns and bounds may expand to at most 512 symbols together, got 600",
        ),
        ({"response_format": {"type": "xml"}}, "response_format.type: .*got 'xml'"),
        ({"response_format": "json"}, "response_format.type: .*got null"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "response_format.json_schema.schema: must be a JSON schema object, got null",
        ),
        ({"structured_outputs": {"grammar": "x"}}, "structured_outputs: must hold one of"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "must hold one of"),
        ({"structured_outputs": {"choice": ["a"] * 50_000}}, "at most 256 entries, got 50000"),
        ({"structured_outputs": {"regex": "(a{999}){999}"}}, "at most 4096 symbols"),
        ({"structured_outputs": {"json": []}}, "must be a JSON schema object"),
    ],
)
def test_what_is_over_a_cap_is_refused_with_field_limit_and_value(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        check_body({"model": "m", **fields}, CHAT_FIELDS, LIMITS)
    assert refused.value.param


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "file"])
def test_a_part_that_is_no_text_is_refused_before_its_address_is_fetched(kind: str) -> None:
    part = {"type": kind, kind: {"url": "http://169.254.169.254/latest"}}
    with pytest.raises(UnsupportedFeature, match=f"got '{kind}'") as refused:
        check_body(
            {"model": "m", "messages": said({"type": "text", "text": "?"}, part)},
            CHAT_FIELDS,
            LIMITS,
        )
    assert (refused.value.code, refused.value.param) == ("unsupported", "messages")


@pytest.mark.parametrize("model", [None, 3, ["m"]])
def test_the_model_is_required(model: Any) -> None:
    with pytest.raises(InvalidRequest, match="model: required, a string"):
        check_body({"model": model}, CHAT_FIELDS, LIMITS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("temprature", "temprature: .*did you mean 'temperature'"),
        ("priority", "priority: not a field"),
        ("cache_salt", "cache_salt: not a field"),
        ("vllm_xargs", "vllm_xargs: not a field"),
        ("prompt", "prompt: not a field"),
        ("x" * 100_000, "xxx[.]{3}: not a field"),
    ],
)
def test_a_field_that_is_not_listed_is_refused_by_name(name: str, message: str) -> None:
    with pytest.raises(UnsupportedFeature, match=message) as refused:
        check_body({"model": "m", name: 1}, CHAT_FIELDS, LIMITS)
    assert len(refused.value.param or "") < 50


@pytest.mark.parametrize(
    ("prompt", "passes"),
    [
        ("Hi", True),
        (["a"] * 64, True),
        (["a"] * 65, False),
        ([1] * 2000, True),
        ([[1, 2]] * 65, False),
    ],
)
def test_prompts_are_counted_and_token_ids_are_not(prompt: Any, passes: bool) -> None:
    body = {"model": "m", "prompt": prompt}
    if passes:
        check_body(body, COMPLETION_FIELDS, LIMITS)
        return
    with pytest.raises(InvalidRequest, match="prompt: at most 64 prompts, got 65"):
        check_body(body, COMPLETION_FIELDS, LIMITS)


@pytest.mark.parametrize("name", sorted(CHAT_FIELDS - {"model", "n"}))
@pytest.mark.parametrize("value", [3, "x", [3], {"a": 3}, True])
def test_a_value_of_a_wrong_kind_is_refused_or_left_to_the_engines_models(
    name: str, value: Any
) -> None:
    with suppress(InvalidRequest):  # any other error would be the server's fault
        check_body({"model": "m", name: value}, CHAT_FIELDS, LIMITS)
