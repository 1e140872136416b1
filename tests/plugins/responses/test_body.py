"""The fields of Responses' bodies: default deny, a cap on each, and items that are read whole."""

from contextlib import suppress
from typing import Any

import pytest

from service.engine.contract import Structure
from service.errors import InvalidRequest, UnsupportedFeature
from service.openai.body import read_body
from service.plugins.responses.body import RESPONSES, ResponseBody
from service.settings.limits import LimitSettings

LIMITS = LimitSettings()
CONTEXT = 2048
SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "maxLength": 4}}}
CALLED = {"call_id": "1", "name": "f"}
TOOL = {"type": "function", "name": "f", "parameters": SCHEMA}


def response(limits: LimitSettings = LIMITS, **fields: Any) -> ResponseBody:
    """A body as it is read."""
    return read_body(ResponseBody, {"model": "m", "input": "Hi", **fields}, limits, CONTEXT)[0]


def places(message: str) -> list[str]:
    """The place that a message begins with, and those around it."""
    place = message.partition(":")[0]
    return [place[:end] for end in range(1, len(place) + 1) if place[end:][:1] in {"", ".", "["}]


def said(role: str, *parts: Any) -> dict[str, Any]:
    """An item of one message in parts."""
    return {"type": "message", "role": role, "content": list(parts)}


def text(value: Any, kind: str = "input_text") -> dict[str, Any]:
    return {"type": kind, "text": value}


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [TOOL] * 128, "tool_choice": "required", "parallel_tool_calls": False},
        {"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}},
        {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}},
        {"text": {"format": {"type": "text"}, "verbosity": "low"}},
        {"reasoning": {"effort": "low", "summary": "auto"}, "metadata": {"a": "b"}},
        {"input": [{"role": "user", "content": "Hi"}] * 512},
        {"input": [{"type": "function_call", **CALLED, "arguments": "no JSON"}]},
        {"input": [{"type": "function_call_output", "call_id": "1", "output": [text("a")]}]},
        {"stop": ["x" * 256] * 32, "logit_bias": {str(token): 1 for token in range(300)}},
        {"include": ["reasoning.encrypted_content"], "top_logprobs": 20},
        {"structured_outputs": {"regex": "a+"}},
        {
            **{"include": ["message.output_text.logprobs"], "top_logprobs": 20},
            "max_output_tokens": 9,
        },
    ],
)
def test_what_is_within_the_caps_passes(fields: dict[str, Any]) -> None:
    assert response(**fields).model_fields_set == {"model", "input", *fields}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": 3}, "model: must be a text, got 3"),
        ({"input": None}, "input: required"),
        ({"input": 5}, "input: must be a text, got 5"),
        ({"input": []}, r"input: must hold 1\.\.512 items, got 0"),
        ({"input": [said("user")] * 513}, r"input: must hold 1\.\.512 items, got 513"),
        ({"input": [{"content": "a"}]}, r"input\[0\].role: required"),
        ({"input": [said("nobody")]}, r"input\[0\].role: must be 'user', .* got 'nobody'"),
        ({"input": [{"role": "user"}]}, r"input\[0\].content: required"),
        ({"input": [said("user") | {"id": 3}]}, r"input\[0\].id: must be a text, got 3"),
        ({"input": [{"type": "function_call"}]}, r"input\[0\].call_id: required"),
        (
            {"input": [{"type": "function_call_output", "call_id": "1"}]},
            r"input\[0\].output: required",
        ),
        (
            {"input": [{"type": "reasoning", "summary": "a"}]},
            r"input\[0\].summary: must be a list, got 'a'",
        ),
        ({"input": ["Hi"]}, r"input\[0\]: must be an object, got 'Hi'"),
        ({"input": [said("user", "Hi")]}, r"input\[0\].content\[0\]: must be an object, got 'Hi'"),
        (
            {"input": [said("user", text(3))]},
            r"input\[0\].content\[0\].text: must be a text, got 3",
        ),
        ({"input": [said("user", *[text("")] * 4097)]}, "input: at most 4096 parts.*4097"),
        (
            {"input": [{"type": "function_call", **CALLED, "arguments": "[" * 65 + "]" * 65}]},
            r"input\[0\].arguments: nested deeper than 64",
        ),
        (
            {"input": [{"type": "function_call", **CALLED, "arguments": "[]" * 4000}] * 3},
            "^input: the arguments of past calls may hold at most 10000 lists and objects together",
        ),
        ({"max_output_tokens": "16"}, "max_output_tokens: must be an integer, got '16'"),
        ({"repetition_penalty": 1e-9}, "repetition_penalty: must be at least 0.01, got 1e-09"),
        ({"max_output_tokens": 0}, "max_output_tokens: must be at least 1, got 0"),
        ({"top_logprobs": 21}, r"top_logprobs: must be 0\.\.20, got 21"),
        ({"top_k": 2**70}, "top_k: an integer must fit into 64 bits"),
        ({"stop": ["x"] * 33}, "stop: at most 32 entries, got 33"),
        ({"stop": ["x" * 257]}, "stop: at most 256 bytes, got 257"),
        ({"logit_bias": {str(t): 1 for t in range(301)}}, "logit_bias: at most 300.*got 301"),
        ({"chat_template_kwargs": {"thinking": [1]}}, "chat_template_kwargs.thinking: must be"),
        ({"input": [said("user") | {"status": 3}]}, r"input\[0\].status: must be a text, got 3"),
        (
            {"input": [{"type": "reasoning", "summary": [], "encrypted_content": 3}]},
            r"input\[0\].encrypted_content: must be a text, got 3",
        ),
        (
            {"tools": [TOOL | {"parameters": {"title": "x" * 8800}}] * 60},
            "tools: at most 524288 bytes, got 528780",
        ),
        ({"stop": [""]}, r"stop\[0\]: must not be empty"),
        ({"stop_token_ids": [1] * 65}, "stop_token_ids: at most 64 entries, got 65"),
        (
            {"metadata": {str(n): "a" for n in range(17)}},
            "metadata: must hold at most 16, got an object of 17 keys",
        ),
        ({"include": "a"}, "include: must be a list, got 'a'"),
        ({"tool_choice": "required"}, "tool_choice: required, but there are no tools"),
        (
            {"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}},
            "tool_choice.name: must be one of tools, got 'g'",
        ),
        (
            {"text": {"format": {"type": "text"}}, "structured_outputs": {"regex": "a"}},
            "structured_outputs: not beside text.format",
        ),
        (
            {"input": [{"type": "reasoning", "summary": [], "encrypted_content": "a"}]},
            r"input\[0\].encrypted_content: cannot be read; send content",
        ),
        ({"include": ["everything"]}, r"include\[0\]: must be .* got 'everything'"),
        ({"tools": [TOOL] * 129}, "tools: at most 128 entries, got 129"),
        (
            {"tools": [TOOL, TOOL | {"parameters": {"type": "strin"}}]},
            r"tools\[1\].parameters: not a valid JSON schema",
        ),
        (
            {
                "text": {
                    "format": {"type": "json_schema", "name": "a", "schema": {"multipleOf": "2"}}
                }
            },
            "text.format.schema: not a valid JSON schema",
        ),
        (
            {"text": {"format": {"type": "json_schema", "name": "a"}}},
            "text.format.schema: required",
        ),
        ({"structured_outputs": {}}, "structured_outputs: must hold one of"),
        (
            {"include": ["message.output_text.logprobs"], "top_logprobs": 20, "stream": True},
            "logprobs: at most 16384 in an answer",
        ),
    ],
)
def test_what_is_over_a_cap_or_of_a_wrong_kind_is_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        response(**fields)
    assert refused.value.param in places(refused.value.message)


@pytest.mark.parametrize(
    ("fields", "param", "reason"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id", "no response is kept"),
        ({"conversation": "conv_1"}, "conversation", "no conversation is kept"),
        ({"background": True}, "background", "no response is kept to be fetched later"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt", "no prompt is kept"),
        ({"max_tokens": 5}, "max_tokens", "set max_output_tokens"),
        ({"response_format": {"type": "text"}}, "response_format", "set text.format"),
        ({"cache_salt": "a"}, "cache_salt", "each tenant has its own"),
        ({"priority": 1}, "priority", "it is the tenant's"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type", "runs no tools of its own"),
        ({"tools": [TOOL, {"type": "mcp"}]}, "tools[1].type", "must be function, got 'mcp'"),
        ({"tool_choice": {"type": "web_search"}}, "tool_choice.type", "must be function"),
        (
            {"input": [said("user", {"type": "input_image", "image_url": "http://a/b"})]},
            "input[0].content[0].type",
            "prompts and answers are text",
        ),
        ({"input": [{"type": "item_reference", "id": "1"}]}, "input[0].type", "no response is"),
        ({"text": {"format": {"type": "grammar"}}}, "text.format.type", "must be text or"),
        ({"inptu": 1}, "inptu", "did you mean 'input'?"),
        ({"tools": [TOOL | {"schema": {}}]}, "tools[0].schema", "not a field of this route"),
        ({"input": [said("user") | {"name": "a"}]}, "input[0].name", "not a field"),
        ({"text": {"style": 1}}, "text.style", "not a field of this route"),
        (
            {"input": [said("assistant", text("a", "output_text") | {"logprobs": [{"p": 1}]})]},
            "input[0].content[0].logprobs[0].p",
            "not a field of this route",
        ),
    ],
)
def test_what_is_not_served_is_refused_by_name(
    fields: dict[str, Any], param: str, reason: str
) -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        response(**fields)
    assert refused.value.param == param
    assert reason in refused.value.message


def test_what_asks_for_nothing_is_left_out() -> None:
    known = {*ResponseBody.model_fields, *RESPONSES.refused} - {"model", "input"}
    hints = {
        **{"service_tier": "auto", "prompt_cache_key": "a", "safety_identifier": "b"},
        **{"stream_options": {"include_obfuscation": False}, "client_metadata": {"a": "b"}},
        **{"max_tool_calls": 5, "text": {"verbosity": "low"}},
    }
    no_ops: dict[str, Any] = {name: values[0] for name, values in RESPONSES.no_ops.items()}
    no_ops["truncation"] = "auto"
    given: dict[str, Any] = {**dict.fromkeys(known), **no_ops, **hints}
    body = response(**given)
    assert body.model_fields_set == {"model", "input", "service_tier", "text"}
    assert body.text == {}


def test_unknown_fields_are_left_out_and_named_where_the_settings_say_so() -> None:
    item = {"type": "message", "role": "user", "content": "a", "colour": 1}
    given = {"model": "m", "input": [item, item], "think": True}
    body, ignored = read_body(ResponseBody, given, LimitSettings(unknown_fields="ignore"), CONTEXT)
    assert ignored == ("input[].colour", "think")
    assert body.input == [{"type": "message", "role": "user", "content": "a"}] * 2


@pytest.mark.parametrize(("asked", "given"), [(CONTEXT + 1, CONTEXT), (2**62, CONTEXT), (7, 7)])
def test_an_answer_longer_than_the_context_is_asked_for_as_long_as_that(
    asked: int, given: int
) -> None:
    assert response(max_output_tokens=asked).sampling({}).max_tokens == given


def test_a_response_without_a_maximum_gets_that_of_the_settings_or_the_model() -> None:
    limited = response(LimitSettings(default_max_tokens=99))
    assert limited.sampling({"max_tokens": 7}).max_tokens == 99
    assert response().sampling({"max_tokens": 7}).max_tokens == 7
    assert response().sampling({}).max_tokens is None


@pytest.mark.parametrize(
    ("fields", "structure"),
    [
        ({}, None),
        ({"text": {"format": {"type": "text"}}}, None),
        ({"text": {"format": {"type": "json_object"}}}, Structure(json_object=True)),
        (
            {"text": {"format": {"type": "json_schema", "name": "a", "schema": SCHEMA}}},
            Structure(json_schema=SCHEMA, strict=False),
        ),
        (
            {"structured_outputs": {"json": SCHEMA}},
            Structure(json_schema=SCHEMA, strict=False),
        ),
        (
            {"structured_outputs": {"choice": ["a", "b"]}},
            Structure(choice=("a", "b"), strict=False),
        ),
    ],
)
def test_the_form_of_the_text_is_the_structure(
    fields: dict[str, Any], structure: Structure | None
) -> None:
    assert response(**fields).sampling({}).structure == structure


def test_log_probabilities_are_asked_for_by_include() -> None:
    included: dict[str, Any] = {"include": ["message.output_text.logprobs"], "max_output_tokens": 8}
    assert response(top_logprobs=3).sampling({}).logprobs is None
    assert response(**included).sampling({}).logprobs == 0
    assert response(**included, top_logprobs=3).sampling({}).logprobs == 3


def test_what_the_request_does_not_set_is_the_models() -> None:
    sampling = response(temperature=0.5, top_k=9).sampling({"temperature": 0.1, "min_p": 0.2})
    assert (sampling.temperature, sampling.top_k, sampling.min_p) == (0.5, 9, 0.2)


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, "none"),
        ({"tool_choice": "auto"}, "none"),
        ({"tools": [], "tool_choice": "auto"}, "none"),
        ({"tools": [TOOL]}, "auto"),
        ({"tools": [TOOL], "tool_choice": "none"}, "none"),
        ({"tools": [TOOL], "tool_choice": "required"}, "required"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "f"}}, "function:f"),
    ],
)
def test_tools_are_those_of_a_chat(fields: dict[str, Any], choice: str) -> None:
    chat = response(**fields).chat()
    assert chat.tool_choice == choice
    function = {"name": "f", "description": None, "parameters": SCHEMA}
    tools = [{"type": "function", "function": function}] if fields.get("tools") else []
    assert chat.tools == tools


def test_a_chat_has_the_instructions_first_and_the_effort() -> None:
    chat = response(instructions="Be short.", reasoning={"effort": "low"}).chat()
    assert chat.messages == [
        {"role": "system", "content": "Be short."},
        {"role": "user", "content": "Hi"},
    ]
    assert chat.reasoning_effort == "low"
    assert (chat.add_generation_prompt, chat.continue_final_message) == (True, False)


@pytest.mark.parametrize("name", sorted(ResponseBody.model_fields.keys() - {"model"}))
@pytest.mark.parametrize("value", [3, "x", [3], [[3]], {"a": 3}, [{"type": 3}], {"type": []}, True])
def test_a_value_of_a_wrong_kind_is_refused_or_read(name: str, value: Any) -> None:
    with suppress(InvalidRequest):  # any other error would be the server's fault
        body = response(**{name: value})
        body.chat()
        body.sampling({})
