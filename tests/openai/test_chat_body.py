"""The bodies of chat completions: a cap on each field, and the chat that they make."""

from contextlib import suppress
from typing import Any

import pytest

from service.engine.contract import Structure
from service.engine.texts import Chat
from service.errors import InvalidRequest, UnsupportedFeature
from service.openai.body import OPENAI, read_body
from service.openai.chat import ChatBody
from service.settings.limits import LimitSettings

LIMITS = LimitSettings()
IGNORING = LimitSettings(unknown_fields="ignore")
CONTEXT = 2048
HI = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
WHOLE = {
    "type": "function",
    "function": {"name": "f", "description": None, "parameters": {"type": "object"}},
}
NAMED = {"type": "function", "function": {"name": "f"}}


def read(limits: LimitSettings = LIMITS, **fields: Any) -> ChatBody:
    """A chat's body."""
    return read_body(ChatBody, {"model": "m", "messages": [HI]} | fields, limits, CONTEXT)[0]


def chat(**fields: Any) -> Chat:
    """The chat of a body."""
    return read(**fields).chat()


def called(arguments: Any) -> list[dict[str, Any]]:
    """A conversation in which a tool was called."""
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}
    return [HI, {"role": "assistant", "tool_calls": [call]}]


def said(*parts: Any) -> list[dict[str, Any]]:
    """A conversation of one message in parts."""
    return [{"role": "user", "content": list(parts)}]


def function(**fields: Any) -> dict[str, Any]:
    """A tool."""
    return {"type": "function", "function": {"name": "f", **fields}}


def schema(schema: Any) -> dict[str, Any]:
    """A response format."""
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


@pytest.mark.parametrize(
    "fields",
    [
        {"messages": called('{"a": [1, "b"]}')},
        {"messages": called("not JSON")},
        {"messages": said({"type": "text", "text": "Hi"}, {"type": "refusal", "refusal": "No"})},
        {"messages": called("[" * 64 + "]" * 64)},
        {"messages": called(f"[{'[],' * 4999}1]") * 2},
        {"messages": called('"' + "[" * 10_001 + '"')},
        {"messages": [HI] * 512, "n": 16, "logprobs": True, "top_logprobs": 20, "max_tokens": 9},
        {"logprobs": True, "stop": ["x" * 256] * 32, "bad_words": ["y"] * 64},
        {"stop": None, "bad_words": None, "tools": None, "n": None, "response_format": None},
        {"logit_bias": {str(token): 1 for token in range(300)}, "stop_token_ids": [1] * 64},
        {"tools": [TOOL] * 128, "metadata": {}, "store": False},
        {"response_format": schema({})},
        {"response_format": {"type": "json_object"}},
        {"response_format": {"type": "text"}, "structured_outputs": {"regex": "a+"}},
        {"structured_outputs": {"choice": ["a"] * 256}},
        {"structured_outputs": {"json": {}}},
        {"n": 1, "top_logprobs": 0, "seed": -(2**63) + 1},
        {"messages": said(*[{"type": "text", "text": ""}] * 4096)},
        {"bad_words": ["9" * 256] * 2},
        {"messages": [{"role": "critic", "name": "me"}, {"role": "tool", "content": None}]},
        {"stream_options": {}},
        {"stream": True, "stream_options": {"include_usage": True}, "prompt_logprobs": 0},
        {"stream": True, "n": 16, "logprobs": True, "top_logprobs": 20},
        {"tools": [TOOL], "tool_choice": "required", "structured_outputs": {"regex": "a"}},
        {"continue_final_message": True, "add_generation_prompt": False},
        {"documents": [{"title": "a", "text": "b"}]},
        {"chat_template_kwargs": {"thinking": True, "reasoning_effort": "x" * 256}},
    ],
)
def test_what_is_within_the_caps_passes(fields: dict[str, Any]) -> None:
    body = read(**fields)
    body.chat()
    body.sampling({})


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"n": 17}, r"n: must be 1\.\.16, got 17"),
        ({"n": 0}, r"n: must be 1\.\.16, got 0"),
        ({"n": 1.5}, "n: must be an integer, got 1.5"),
        ({"n": 10**400}, "got an integer of 1329 bits"),
        ({"top_logprobs": 21}, r"top_logprobs: must be 0\.\.20, got 21"),
        ({"top_logprobs": 2}, "top_logprobs: only beside logprobs, got 2"),
        ({"max_tokens": "16"}, "max_tokens: must be an integer, got '16'"),
        ({"max_tokens": 0}, "max_tokens: must be at least 1, got 0"),
        ({"max_completion_tokens": 16.5}, "max_completion_tokens: must be an integer, got 16.5"),
        ({"max_completion_tokens": 0}, "max_completion_tokens: must be at least 1, got 0"),
        ({"min_tokens": 6, "max_tokens": 5}, "min_tokens: at most 5, the longest answer, got 6"),
        ({"repetition_penalty": 1e308}, r"repetition_penalty: must be at most 100, got 1e\+308"),
        ({"repetition_penalty": 0}, r"repetition_penalty: must be at least 0\.01, got 0"),
        ({"presence_penalty": 2.5}, "presence_penalty: must be at most 2, got 2.5"),
        ({"top_p": 0}, "top_p: must be more than 0, got 0"),
        ({"top_k": -2}, "top_k: must be at least -1, got -2"),
        ({"logprobs": 1}, "logprobs: must be true or false, got 1"),
        ({"messages": []}, "messages: must hold at least 1"),
        ({"messages": [HI | {"content": 3}]}, r"messages\[0\].content: must be a text or a list"),
        ({"messages": [HI | {"content": {"type": "text"}}]}, "content: must be a text or a list"),
        ({"messages": said("Hi")}, r"messages\[0\].content\[0\]: must be an object, got 'Hi'"),
        ({"messages": said({"type": "text", "text": 3})}, r"\[0\].text: must be a text, got 3"),
        ({"messages": [HI | {"refusal": 3}]}, r"messages\[0\].refusal: must be a text, got 3"),
        ({"messages": [HI | {"reasoning": {}}]}, "reasoning: must be a text, got an object of 0"),
        ({"messages": called({})}, "arguments: must be a text, got an object of 0 keys"),
        (
            {"messages": said(*[{"type": "text", "text": ""}] * 4097)},
            "^messages: at most 4096 parts.*4097",
        ),
        ({"messages": called("[" * 3000)}, r"messages\[1\].tool_calls\[0\].*deeper than 64"),
        ({"messages": called("[" * 65 + "]" * 65)}, "arguments: nested deeper than 64"),
        ({"messages": called("[" + "[]," * 10_000 + "[]]")}, "at most 10000 lists and objects"),
        ({"messages": called(f"[{'[],' * 4999}1]") * 3}, "^messages: .* at most 10000 .* together"),
        ({"messages": called('{"a": "\\ud800"}')}, "arguments: must not hold lone surrogates"),
        ({"messages": called("9" * 5000)}, "arguments: must not hold integers of thousands"),
        ({"messages": [HI] * 513}, "messages: at most 512 entries, got 513"),
        ({"stop": ["x"] * 33}, "stop: at most 32 entries, got 33"),
        ({"stop": 5}, "stop: must be a text or a list, got 5"),
        ({"stop": ["a", ""]}, r"stop\[1\]: must not be empty, got ''"),
        ({"stop": ""}, "stop: must not be empty"),
        ({"stop": [["a"]]}, r"stop\[0\]: must be a text, got a list of 1"),
        ({"stop": "x" * 257}, "stop: at most 256 bytes, got 257"),
        ({"stop": ["é" * 129]}, "stop: at most 256 bytes, got 258"),
        ({"documents": [{"text": "a"}] * 65}, "documents: at most 64 entries, got 65"),
        ({"documents": [{"text": 1}]}, r"documents\[0\].text: must be a text, got 1"),
        ({"prompt_logprobs": 21}, r"prompt_logprobs: must be 0\.\.20, got 21"),
        ({"prompt_logprobs": -1}, r"prompt_logprobs: must be 0\.\.20, got -1"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs: must be 0 beside stream, got 1"),
        ({"chat_template_kwargs": []}, "chat_template_kwargs: must be an object, got a list of 0"),
        (
            {"chat_template_kwargs": {"thinking": [1]}},
            "chat_template_kwargs.thinking: must be a text, a number, true or false, got a list",
        ),
        (
            {"chat_template_kwargs": {"reasoning_effort": "x" * 257}},
            "chat_template_kwargs.reasoning_effort: at most 256 bytes, got 257",
        ),
        (
            {"chat_template_kwargs": {"thinking": 2**70}},
            "chat_template_kwargs.thinking: an integer must fit into 64 bits",
        ),
        ({"bad_words": ["x"] * 65}, "bad_words: at most 64 entries, got 65"),
        ({"bad_words": [""]}, r"bad_words\[0\]: must not be empty"),
        ({"bad_words": ["9" * 250] * 5}, "bad_words: at most 512 bytes together, got 1250"),
        ({"stop_token_ids": [1] * 65}, "stop_token_ids: at most 64 entries, got 65"),
        ({"stop_token_ids": [1, 2**70]}, r"stop_token_ids\[1\]: an integer must fit into 64 bits"),
        ({"allowed_token_ids": [1] * 1025}, "allowed_token_ids: at most 1024 entries, got 1025"),
        ({"allowed_token_ids": []}, "allowed_token_ids: must hold at least 1"),
        ({"logit_bias": {str(t): 1 for t in range(301)}}, "logit_bias: at most 300.*got 301"),
        ({"logit_bias": {"a": 1}}, "logit_bias: must hold token ids, got 'a'"),
        ({"logit_bias": {"²": 1}}, "logit_bias: must hold token ids, got '²'"),
        ({"logit_bias": {"7": "x"}}, "logit_bias.7: must be a number, got 'x'"),
        ({"tools": [TOOL] * 129}, "tools: at most 128 entries, got 129"),
        ({"tools": "f"}, "tools: must be a list, got 'f'"),
        ({"tools": [TOOL, "f"]}, r"tools\[1\]: must be an object, got 'f'"),
        ({"tools": [{"type": "function", "function": {}}]}, r"tools\[0\].function.name: required"),
        ({"tools": [TOOL | {"type": "x"}]}, r"tools\[0\].type: must be 'function', got 'x'"),
        (
            {"tools": [TOOL, function(parameters={"type": "strin"})]},
            r"tools\[1\].function.parameters: not a valid JSON schema",
        ),
        (
            {"tools": [function(parameters={"title": "x" * 8800})] * 60},
            "tools: at most 524288 bytes, got 528780",
        ),
        (
            {"tools": [function(parameters={"pattern": "(a{99}){99}"})] * 2},
            r"tools\[0\].function.parameters.pattern: may expand to at most 4096 symbols, got 9801",
        ),
        ({"tool_choice": "required"}, "tool_choice: only beside tools"),
        ({"tool_choice": NAMED, "tools": []}, "tool_choice: only beside tools"),
        ({"tool_choice": "any", "tools": [TOOL]}, "tool_choice: .*'required' or an object"),
        (
            {"tool_choice": {"function": {"name": "g"}}, "tools": [TOOL]},
            "tool_choice.function.name: must be one of the tools, got 'g'",
        ),
        (
            {"tool_choice": NAMED, "tools": [TOOL], "structured_outputs": {"regex": "a"}},
            "tool_choice: must name no function beside structured_outputs",
        ),
        ({"response_format": "json"}, "response_format: must be an object, got 'json'"),
        ({"response_format": schema(3)}, "json_schema.schema: must be an object, got 3"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema: required",
        ),
        (
            {"response_format": {"type": "json_object", "value": {"type": "strin"}}},
            "response_format.value: not a valid JSON schema",
        ),
        (
            {"response_format": {"type": "json_object", "value": {}, "schema": {}}},
            "response_format: must hold one of schema and value, got both",
        ),
        (
            {"response_format": {"type": "json_object"}, "structured_outputs": {"regex": "a"}},
            "response_format: not beside structured_outputs",
        ),
        ({"structured_outputs": {}}, "structured_outputs: must hold one of"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "must hold one of"),
        ({"structured_outputs": {"choice": ["a"] * 50_000}}, "outputs.choice: 1\\.\\.256 entries"),
        (
            {"structured_outputs": {"regex": "(a{999}){999}"}},
            "outputs.regex: may expand to at most",
        ),
        ({"structured_outputs": {"json": []}}, "outputs.json: must be an object"),
        ({"structured_outputs": {"json_object": False}}, "json_object: must be true, got false"),
        ({"stream_options": {"include_usage": True}}, "stream_options: only beside stream"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "usage: must be true or false"),
        ({"continue_final_message": True}, "continue_final_message: only where add_generation_"),
        ({"reasoning_effort": "huge"}, "reasoning_effort: must be 'none', 'minimal'"),
        ({"truncate_prompt_tokens": -2}, "truncate_prompt_tokens: must be at least -1, got -2"),
        ({"logprobs": True, "n": 16}, "logprobs: at most 16384 in an answer .* 16 x 2048"),
    ],
)
def test_what_is_over_a_cap_is_refused_with_field_limit_and_value(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        read(**fields)
    assert refused.value.param in places(refused.value.message)


def places(message: str) -> list[str]:
    """The place that a message begins with, and those around it."""
    place = message.partition(":")[0]
    return [place[:end] for end in range(1, len(place) + 1) if place[end:][:1] in {"", ".", "["}]


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "file"])
def test_a_part_that_is_no_text_is_refused_before_its_address_is_fetched(kind: str) -> None:
    part = {"type": kind, kind: {"url": "http://169.254.169.254/latest"}}
    with pytest.raises(UnsupportedFeature, match=f"got '{kind}'") as refused:
        read(messages=said({"type": "text", "text": "?"}, part))
    assert refused.value.code == "unsupported"
    assert refused.value.param == "messages[0].content[1].type"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temprature": 1}, "temprature: not a field .*did you mean 'temperature'"),
        ({"prompt": "a"}, "prompt: not a field"),
        ({"stream_options": {"usage": True}}, "stream_options.usage: not a field"),
        (
            {"tools": [{"function": {"name": "f", "parameter": {}}}]},
            r"tools\[0\].function.parameter: .*did you mean 'parameters'",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"shema": {}}}},
            "response_format.json_schema.shema: .*did you mean 'schema'",
        ),
        ({"structured_outputs": {"grammar": "x"}}, "structured_outputs.grammar: not a field"),
        (
            {"chat_template_kwargs": {"enable_thnking": True}},
            "chat_template_kwargs.enable_thnking: .*did you mean 'enable_thinking'",
        ),
        ({"chat_template_kwargs": {"chat_template": "{{ 1 }}"}}, "not a field"),
        ({"response_format": {"type": "xml"}}, "response_format.type: .*got 'xml'; other constr"),
        (
            {"response_format": {"type": "text", "schema": {}}},
            "response_format.schema: not a field",
        ),
        (
            {"response_format": {"type": "json_object", "json_schema": {"schema": {}}}},
            "response_format.json_schema: not a field",
        ),
    ],
)
def test_a_field_that_is_not_listed_is_refused_by_name_at_every_level(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedFeature, match=message) as refused:
        read(**fields)
    assert refused.value.param in places(refused.value.message)


# A chat serves this one; only the other bodies refuse it.
@pytest.mark.parametrize("name", sorted(OPENAI.refused.keys() - {"return_prompt_text"}))
def test_a_known_field_that_is_not_served_is_refused_for_a_reason_always(name: str) -> None:
    for limits in (LIMITS, IGNORING):
        with pytest.raises(UnsupportedFeature, match=f"^{name}: not served, \\w") as refused:
            read(limits, **dict[str, Any]({name: 3}))
        assert refused.value.param == name


@pytest.mark.parametrize("name", sorted(OPENAI.refused.keys() | OPENAI.no_ops.keys()))
def test_a_null_and_a_value_that_changes_nothing_are_left_out(name: str) -> None:
    for value in (None, *OPENAI.no_ops.get(name, ())):
        body = read(**{name: value})
        assert (body.chat(), body.sampling({})) == (read().chat(), read().sampling({}))


def test_the_only_value_that_is_served_is_told() -> None:
    with pytest.raises(UnsupportedFeature, match="the only value is 0, got -5"):
        read(**dict[str, Any](priority=-5))
    with pytest.raises(UnsupportedFeature, match="the only value is false, got true"):
        read(**dict[str, Any](use_beam_search=True))


def test_nulls_and_hints_reach_the_engine_at_no_level() -> None:
    messages = [
        HI | {"name": None, "cache_control": {"type": "ephemeral"}},
        {"role": "assistant", "content": None, "refusal": None, "annotations": []},
    ]
    tool = {"type": "function", "function": {"name": "f", "strict": None}, "cache_control": {}}
    made = chat(messages=messages, tools=[tool], tool_choice=None, temperature=None)
    assert made.messages == [HI, {"role": "assistant"}]
    assert made.tools[0]["function"] == {"name": "f", "description": None, "parameters": None}
    assert made.tool_choice == "auto"


def test_a_message_without_what_it_says_is_read_as_one_that_says_null() -> None:
    call = called("{}")[1]
    assert chat(messages=[HI, call | {"content": None}]).messages == [HI, call]


def test_what_a_model_refused_is_what_it_said() -> None:
    refusal = {"type": "refusal", "refusal": "No."}
    asked = {"role": "assistant", "refusal": "No."}
    made = chat(messages=[asked, asked | {"content": "Well."}, asked | {"content": ""}])
    assert made.messages == [
        {"role": "assistant", "content": [refusal]},
        {"role": "assistant", "content": [{"type": "text", "text": "Well."}, refusal]},
        {"role": "assistant", "content": [refusal]},
    ]


def test_thoughts_have_one_name() -> None:
    asked = {"role": "assistant", "content": "", "reasoning_content": "Hm."}
    made = chat(messages=[asked, asked | {"reasoning": "Yes."}])
    assert made.messages == [
        {"role": "assistant", "content": "", "reasoning": "Hm."},
        {"role": "assistant", "content": "", "reasoning": "Yes."},
    ]


@pytest.mark.parametrize(
    ("fields", "tools", "choice"),
    [
        ({}, [], "none"),
        ({"tools": []}, [], "none"),
        ({"tool_choice": "auto"}, [], "none"),
        ({"tools": [TOOL]}, [WHOLE], "auto"),
        ({"tools": [{"function": TOOL["function"]}]}, [WHOLE], "auto"),
        ({"tools": [TOOL], "tool_choice": "none"}, [WHOLE], "none"),
        ({"tools": [TOOL], "tool_choice": "required"}, [WHOLE], "required"),
        ({"tools": [TOOL], "tool_choice": NAMED}, [WHOLE], "function:f"),
    ],
)
def test_tools_are_offered_as_the_choice_says(
    fields: dict[str, Any], tools: list[Any], choice: str
) -> None:
    made = chat(**fields)
    assert (made.tools, made.tool_choice) == (tools, choice)


@pytest.mark.parametrize(
    ("fields", "structure"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Structure(json_object=True)),
        (
            {"response_format": {"type": "json_object", "value": {}}},
            Structure(json_schema={}, strict=False),
        ),
        (
            {"response_format": {"type": "json_object", "schema": {}}},
            Structure(json_schema={}, strict=False),
        ),
        ({"response_format": schema({})}, Structure(json_schema={}, strict=False)),
        ({"structured_outputs": {"regex": "a"}}, Structure(regex="a")),
        ({"structured_outputs": {"choice": ["a"]}}, Structure(choice=("a",))),
        ({"structured_outputs": {"json": {}}}, Structure(json_schema={}, strict=False)),
        ({"structured_outputs": {"json_object": True}}, Structure(json_object=True)),
    ],
)
def test_a_constraint_is_one_structure(fields: dict[str, Any], structure: Structure | None) -> None:
    assert read(**fields).sampling({}).structure == structure


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("asked", "given"), [(CONTEXT + 1, CONTEXT), (2**62, CONTEXT), (7, 7)])
def test_an_answer_longer_than_the_context_is_asked_for_as_long_as_that(
    name: str, asked: int, given: int
) -> None:
    fields: dict[str, Any] = {name: asked}
    assert read(**fields).sampling({}).max_tokens == given


def test_a_chat_without_a_maximum_gets_that_of_the_settings() -> None:
    capped = LimitSettings(default_max_tokens=99)
    assert read().sampling({}).max_tokens is None
    assert read(capped).sampling({}).max_tokens == 99
    assert read(capped, max_completion_tokens=7).sampling({}).max_tokens == 7
    assert read(capped, max_tokens=500).sampling({}).max_tokens == 500
    assert read(LimitSettings(default_max_tokens=10**6)).sampling({}).max_tokens == CONTEXT
    assert read().sampling({"max_tokens": 12}).max_tokens == 12


def test_the_settings_say_what_a_template_is_given() -> None:
    asked: dict[str, Any] = {"enable_thinking": False, "reasoning_effort": "low"}
    assert chat(chat_template_kwargs=asked).template_kwargs == asked
    with pytest.raises(UnsupportedFeature, match="enable_thinking: not a field"):
        read(LimitSettings(chat_template_kwargs=()), chat_template_kwargs=asked)


@pytest.mark.parametrize("name", sorted(ChatBody.model_fields.keys() - {"model", "n"}))
@pytest.mark.parametrize("value", [3, "x", [3], {"a": 3}, [{"function": 3}], True, {}, [], [None]])
def test_a_value_of_any_kind_is_taken_or_refused(name: str, value: Any) -> None:
    with suppress(InvalidRequest):  # any other error would be the server's fault
        body = read(**{name: value})
        body.chat()
        body.sampling({})
