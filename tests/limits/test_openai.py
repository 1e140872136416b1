"""The fields of OpenAI's bodies: default deny, and a cap on each."""

from contextlib import suppress
from typing import Any

import pytest

from service.errors import InvalidRequest, UnsupportedFeature
from service.limits.fields import Accepted
from service.limits.openai import accept
from service.limits.openai_fields import CHAT, COMPLETION, NO_OPS, REFUSED
from service.settings.limits import LimitSettings

LIMITS = LimitSettings()
IGNORING = LimitSettings(unknown_fields="ignore")
CONTEXT = 2048
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


def chat(limits: LimitSettings = LIMITS, **fields: Any) -> Accepted:
    """A chat's body as vLLM gets it."""
    return accept({"model": "m", **fields}, CHAT, limits, CONTEXT)


def completion(**fields: Any) -> Accepted:
    """A completion's body as vLLM gets it."""
    return accept({"model": "m", **fields}, COMPLETION, LIMITS, CONTEXT)


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
        {"messages": called(f"[{'[],' * 4999}1]") * 2},
        {"messages": called('"' + "[" * 10_001 + '"')},
        {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": {}}}, 3]}]},
        {"messages": [{"role": "user", "content": "Hi"}] * 512, "n": 16, "top_logprobs": 20},
        {"logprobs": True, "stop": ["x" * 256] * 32, "bad_words": ["y"] * 64},
        {"stop": None, "bad_words": None, "tools": None, "n": None, "response_format": None},
        {"logit_bias": {str(token): 1 for token in range(300)}, "stop_token_ids": [1] * 64},
        {"tools": [TOOL] * 64, "metadata": {}, "store": False},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
        {"response_format": {"type": "json_object"}},
        {"structured_outputs": {"choice": ["a"] * 256}},
        {"structured_outputs": {"regex": "a+"}},
        {"structured_outputs": {"json": {}}},
        {"n": 1, "top_logprobs": 0, "seed": -(2**63) + 1},
        {"messages": said(*[{"type": "text", "text": ""}] * 4096)},
        {"bad_words": ["9" * 256] * 2},
    ],
)
def test_what_is_within_the_caps_passes(fields: dict[str, Any]) -> None:
    chat(**fields)


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
        ({"max_completion_tokens": 0}, "max_completion_tokens: must be at least 1, got 0"),
        ({"repetition_penalty": 1e308}, r"repetition_penalty: .*0\.01\.\.100, got 1e\+308"),
        ({"repetition_penalty": 0}, r"repetition_penalty: .*0\.01\.\.100, got 0"),
        ({"repetition_penalty": "1"}, r"repetition_penalty: must be a number .*, got '1'"),
        ({"logprobs": 1}, "logprobs: must be true or false, got 1"),
        ({"messages": 5}, "messages: must be a list, got 5"),
        ({"messages": []}, "messages: at least 1"),
        ({"messages": said("Hi")}, r"messages\[0\].content\[0\]: must hold text, got 'Hi'"),
        (
            {"messages": said({"type": "text", "text": 3})},
            "must hold text, got an object of 2 keys",
        ),
        ({"messages": said({"text": "Hi"})}, "type: must be text or refusal, got null"),
        ({"messages": [{"content": {"type": "text"}}]}, "content: must be a text or a list"),
        ({"messages": [{"refusal": 3}]}, r"messages\[0\].refusal: must be a text, got 3"),
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
        ({"stop": ["x"] * 33}, "stop: at most 32 entries, got 33"),
        ({"stop": 5}, "stop: must be a text or a list of texts, none empty, got 5"),
        ({"stop": ["a", ""]}, "stop: must be a text or a list of texts, none empty, got ''"),
        ({"stop": [["a"]]}, "stop: .* got a list of 1"),
        ({"documents": [{"text": "a"}] * 65}, "documents: at most 64 entries, got 65"),
        ({"prompt_logprobs": 21}, r"prompt_logprobs: must be 0\.\.20, got 21"),
        ({"prompt_logprobs": -1}, r"prompt_logprobs: must be 0\.\.20, got -1"),
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
        ({"structured_outputs": {}}, "structured_outputs: must hold one of"),
        (
            {"response_format": {"type": "json_object", "value": {"type": "strin"}}},
            "response_format.value: not a valid JSON schema",
        ),
        (
            {"response_format": {"type": "json_object", "value": {}, "schema": {}}},
            "response_format: must hold one of schema and value, got both",
        ),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "must hold one of"),
        ({"structured_outputs": {"choice": ["a"] * 50_000}}, "outputs.choice: at most 256 entries"),
        (
            {"structured_outputs": {"regex": "(a{999}){999}"}},
            "outputs.regex: may expand to at most",
        ),
        ({"structured_outputs": {"json": []}}, "outputs.json: must be a JSON schema object"),
        (
            {"response_format": {"type": "json_schema", "json_schema": 3}},
            "response_format.json_schema.schema: must be a JSON schema object, got 3",
        ),
        ({"seed": 2**63}, "seed: an integer must fit into 64 bits"),
        ({"stop_token_ids": [1, 2**70]}, "stop_token_ids: an integer must fit into 64 bits"),
        ({"bad_words": [3, "x" * 257]}, "bad_words: at most 256 bytes, got 257"),
        ({"tools": "f"}, "tools: must be a list, got 'f'"),
        ({"tools": [TOOL, "f"]}, r"tools\[1\]: must be an object, got 'f'"),
    ],
)
def test_what_is_over_a_cap_is_refused_with_field_limit_and_value(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        chat(**fields)
    assert refused.value.param in places(refused.value.message)


def places(message: str) -> list[str]:
    """The place that a message begins with, and those around it."""
    place = message.partition(":")[0]
    return [place[:end] for end in range(1, len(place) + 1) if place[end:][:1] in {"", ".", "["}]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"prompt": ""}, "prompt: must not be empty"),
        ({"prompt": []}, "prompt: must not be empty"),
        ({"prompt": "a", "logprobs": True}, "logprobs: must be an integer, got true"),
        ({"prompt": "a", "logprobs": 21}, r"logprobs: must be 0\.\.20, got 21"),
    ],
)
def test_what_a_completion_cannot_be_asked_for_is_refused(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        completion(**fields)
    assert refused.value.param in places(refused.value.message)


@pytest.mark.parametrize("kind", ["image_url", "input_audio", "video_url", "file"])
def test_a_part_that_is_no_text_is_refused_before_its_address_is_fetched(kind: str) -> None:
    part = {"type": kind, kind: {"url": "http://169.254.169.254/latest"}}
    with pytest.raises(UnsupportedFeature, match=f"got '{kind}'") as refused:
        chat(messages=said({"type": "text", "text": "?"}, part))
    assert refused.value.code == "unsupported"
    assert refused.value.param == "messages[0].content[1].type"


@pytest.mark.parametrize("model", [None, 3, ["m"]])
def test_the_model_is_required(model: Any) -> None:
    with pytest.raises(InvalidRequest, match="model: required, a string") as refused:
        chat(model=model)
    assert refused.value.param == "model"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temprature": 1}, "temprature: not a field .*did you mean 'temperature'"),
        ({"prompt": "a"}, "prompt: not a field"),
        ({"num_ctx": 4096}, "num_ctx: not a field"),
        ({"x" * 100_000: 1}, "xxx[.]{3}: not a field"),
        ({"messages": [{"role": "user", "contents": "a"}]}, r"messages\[0\].contents: not a field"),
        (
            {"messages": said({"type": "text", "text": "a", "txt": "b"})},
            r"messages\[0\].content\[0\].txt: .*did you mean 'text'",
        ),
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
        ({"response_format": {"type": "text", "schema": {}}}, "schema: not read with type text"),
        (
            {"response_format": {"type": "json_object", "json_schema": {"schema": {}}}},
            "response_format.json_schema: not read with type json_object",
        ),
    ],
)
def test_a_field_that_is_not_listed_is_refused_by_name_at_every_level(
    fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UnsupportedFeature, match=message) as refused:
        chat(**fields)
    assert refused.value.param in places(refused.value.message)
    assert len(refused.value.param) < 60


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_known_field_that_is_not_served_is_refused_for_a_reason_always(name: str) -> None:
    for limits in (LIMITS, IGNORING):
        with pytest.raises(UnsupportedFeature, match=f"^{name}: not served, \\w") as refused:
            chat(limits, **dict[str, Any]({name: 3}))
        assert refused.value.param == name


@pytest.mark.parametrize("name", sorted(REFUSED.keys() | NO_OPS.keys()))
def test_a_null_and_a_value_that_changes_nothing_are_left_out(name: str) -> None:
    for value in (None, *NO_OPS.get(name, ())):
        assert chat(**{name: value}).body == {"model": "m"}


def test_the_only_value_that_is_served_is_told() -> None:
    with pytest.raises(UnsupportedFeature, match="the only value is 0, got -5"):
        chat(priority=-5)
    with pytest.raises(UnsupportedFeature, match="the only value is false, got true"):
        chat(use_beam_search=True)


def test_nulls_and_hints_reach_the_engine_at_no_level() -> None:
    asked: dict[str, Any] = {
        "temperature": None,
        "verbosity": "low",
        "metadata": {"a": 1},
        "num_ctx": None,
        "messages": [
            {"role": "user", "content": "Hi", "name": None, "cache_control": {"type": "ephemeral"}},
            {"role": "assistant", "content": None, "refusal": None, "annotations": []},
        ],
        "stream_options": {"include_usage": True, "include_obfuscation": False},
        "structured_outputs": {"json": None, "regex": "a", "grammar": None},
        "tools": [{"type": "function", "function": {"name": "f", "strict": None}}],
    }
    assert chat(**asked).body == {
        "model": "m",
        "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant"}],
        "stream_options": {"include_usage": True},
        "structured_outputs": {"regex": "a"},
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }


def test_unknown_fields_are_left_out_and_named_where_the_settings_say_so() -> None:
    messages = [{"role": "user", "content": "a", "id": number} for number in range(3)]
    accepted = chat(IGNORING, num_ctx=4096, messages=messages, think=None, keep_alive="5m")
    assert accepted.ignored == ("keep_alive", "messages[].id", "num_ctx")
    assert accepted.body == {"model": "m", "messages": [{"role": "user", "content": "a"}] * 3}


def test_a_part_loses_its_hints_and_its_unknown_fields() -> None:
    part = {"type": "text", "text": "a"}
    asked = part | {"cache_control": {"type": "ephemeral"}, "colour": 1, "uuid": None}
    accepted = chat(IGNORING, messages=said(asked))
    assert accepted.ignored == ("messages[].content[].colour",)
    assert accepted.body["messages"] == said(part)


def test_what_a_model_refused_is_what_it_said() -> None:
    refusal = {"type": "refusal", "refusal": "No."}
    asked = [{"role": "assistant", "refusal": "No."}]
    read = chat(messages=[*asked, asked[0] | {"content": "Well."}]).body["messages"]
    assert read == [
        {"role": "assistant", "content": [refusal]},
        {"role": "assistant", "content": [{"type": "text", "text": "Well."}, refusal]},
    ]


@pytest.mark.parametrize("key", ["value", "schema"])
def test_a_schema_beside_json_object_is_honoured(key: str) -> None:
    accepted = chat(response_format={"type": "json_object", key: {"type": "object"}})
    assert accepted.body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": {"type": "object"}},
    }


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize(("asked", "given"), [(CONTEXT + 1, CONTEXT), (2**62, CONTEXT), (7, 7)])
def test_an_answer_longer_than_the_context_is_asked_for_as_long_as_that(
    name: str, asked: int, given: int
) -> None:
    fields: dict[str, Any] = {name: asked}
    assert chat(**fields).body[name] == given


def test_the_settings_say_what_a_template_is_given() -> None:
    asked: dict[str, Any] = {
        "chat_template_kwargs": {"enable_thinking": False, "reasoning_effort": "low"}
    }
    assert chat(**asked).body == {"model": "m"} | asked
    with pytest.raises(UnsupportedFeature, match="enable_thinking: not a field"):
        chat(LimitSettings(chat_template_kwargs=()), **asked)
    with pytest.raises(ValueError, match="chat_template is no variable"):
        LimitSettings(chat_template_kwargs=("chat_template",))


@pytest.mark.parametrize(
    ("prompt", "passes"),
    [
        ("Hi", True),
        (["a"] * 64, True),
        (["a"] * 65, False),
        ([1] * 2000, True),
        ([2**70], True),  # its tokens are checked against the vocabulary
        ([[1, 2]] * 65, False),
    ],
)
def test_prompts_are_counted_and_token_ids_are_not(prompt: Any, passes: bool) -> None:
    if passes:
        completion(prompt=prompt, logprobs=5)
        return
    with pytest.raises(InvalidRequest, match="prompt: at most 64 prompts, got 65") as refused:
        completion(prompt=prompt)
    assert refused.value.param == "prompt"


@pytest.mark.parametrize("name", sorted(CHAT.keys() - {"model", "n"}))
@pytest.mark.parametrize("value", [3, "x", [3], {"a": 3}, [{"function": 3}], True])
def test_a_value_of_a_wrong_kind_is_refused_or_left_to_the_engines_models(
    name: str, value: Any
) -> None:
    with suppress(InvalidRequest):  # any other error would be the server's fault
        chat(**{name: value})


def test_a_chat_without_a_maximum_gets_that_of_the_settings() -> None:
    capped = LimitSettings(default_max_tokens=99)
    assert chat(capped).body == {"model": "m", "max_tokens": 99}
    assert chat(capped, max_completion_tokens=7).body["max_completion_tokens"] == 7
    assert chat(capped, max_tokens=500).body == {"model": "m", "max_tokens": 500}
    assert chat(LimitSettings(default_max_tokens=10**6)).body["max_tokens"] == CONTEXT
    assert accept({"model": "m", "prompt": "a"}, COMPLETION, capped, CONTEXT).body.keys() == {
        "model",
        "prompt",
    }
