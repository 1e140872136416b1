"""Our bodies beside vLLM's own request models: the same parameters, and the same refusals."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import RequestOutputKind, SamplingParams, StructuredOutputsParams

from service.engine.contract import Sampling, Structure
from service.errors import InvalidRequest
from service.openai.body import read_body
from service.openai.chat import ChatBody
from service.openai.completion import CompletionBody
from service.settings.limits import LimitSettings

CONTEXT = 4096
LIMITS = LimitSettings(answer_logprobs=1 << 40)
HI = {"role": "user", "content": "Hi"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
APART = {"output_kind", "stream_interval", "skip_clone", "extra_args"}
"""Parameters of vLLM's that are about how its own handlers send an answer."""


def numbers(least: int, most: int) -> st.SearchStrategy[float]:
    """Integers and fractions."""
    return st.integers(least, most) | st.floats(least, most)


texts = st.text(min_size=1, max_size=9)
tokens = st.lists(st.integers(0, 99), min_size=1, max_size=4)
optional: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(1, 2 * CONTEXT),
    "min_tokens": st.integers(0, 4),
    "n": st.integers(1, 3),
    "user": st.text(),
    "seed": st.integers(-(1 << 63) + 1, (1 << 63) - 1),
    "top_k": st.integers(-1, 40),
    "ignore_eos": st.booleans(),
    "skip_special_tokens": st.booleans(),
    "spaces_between_special_tokens": st.booleans(),
    "include_stop_str_in_output": st.booleans(),
    "temperature": numbers(0, 2),
    "top_p": numbers(0, 1).filter(bool),
    "min_p": numbers(0, 1),
    "presence_penalty": numbers(-2, 2),
    "frequency_penalty": numbers(-2, 2),
    "repetition_penalty": st.floats(0.01, 100) | st.integers(1, 9),
    "stop": texts | st.lists(texts, max_size=9),
    "stop_token_ids": tokens,
    "allowed_token_ids": tokens,
    "bad_words": st.lists(texts, max_size=4),
    "logit_bias": st.dictionaries(
        st.integers(0, 99).map(str), st.integers(-200, 200) | st.floats(-200, 200), max_size=3
    ),
    "prompt_logprobs": st.integers(0, 3),
    "stream": st.booleans(),
    "stream_options": st.just({}),
    "response_format": st.sampled_from(
        [
            {"type": "text"},
            {"type": "json_object"},
            {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}},
        ]
    ),
    "structured_outputs": st.sampled_from(
        [{"regex": "a"}, {"choice": ["a", "b"]}, {"json": SCHEMA}, {"json_object": True}]
    ),
    "truncate_prompt_tokens": st.integers(-1, 9),
    "truncation_side": st.sampled_from(["left", "right"]),
    "return_token_ids": st.booleans(),
}
# vLLM takes a text of digits for a number, which is refused here.
wordy = st.text().filter(lambda text: not any(each.isdigit() for each in text))
wild: dict[str, st.SearchStrategy[Any]] = {
    **dict.fromkeys(
        """temperature top_p min_p presence_penalty frequency_penalty""".split(),
        numbers(-3, 3),
    ),
    **dict.fromkeys(
        "top_k min_tokens max_tokens truncate_prompt_tokens".split(), st.integers(-9, 9)
    ),
    "stream_options": st.just({"include_usage": True}),
    "stop": st.lists(st.text(), max_size=2),
    "bad_words": st.lists(st.text(), max_size=2) | st.text(),
    "stop_token_ids": st.lists(st.none() | wordy, min_size=1),
    "truncation_side": st.text(),
    "user": st.integers(),
}
"""Values of fields that may be out of their range."""
alone = st.one_of([st.fixed_dictionaries({name: each}) for name, each in wild.items()])
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text()}
)
chats = st.fixed_dictionaries(
    {"model": st.text(), "messages": st.lists(messages, min_size=1, max_size=3)},
    optional=optional
    | {
        "max_completion_tokens": st.integers(1, 2 * CONTEXT),
        "logprobs": st.booleans(),
        "top_logprobs": st.integers(0, 3),
        "tools": st.just([TOOL]),
        "tool_choice": st.sampled_from(
            ["none", "auto", "required", {"type": "function", "function": {"name": "f"}}]
        ),
        "reasoning_effort": st.sampled_from(["none", "low", "max"]),
        "parallel_tool_calls": st.booleans(),
    },
)
prompts = texts | st.lists(texts, min_size=1, max_size=3) | tokens | st.lists(tokens, min_size=1)
completions = st.fixed_dictionaries(
    {"model": st.text(), "prompt": prompts},
    optional=optional | {"echo": st.booleans(), "logprobs": st.integers(0, 3)},
)
defaults = st.fixed_dictionaries(
    {},
    optional={
        "temperature": st.floats(0.1, 1),
        "top_p": st.floats(0.1, 1),
        "top_k": st.integers(0, 50),
        "min_p": st.floats(0, 1),
        "repetition_penalty": st.floats(1, 2),
        "stop_token_ids": tokens,
        "max_tokens": st.integers(4, 99),
    },
)


def params(sampling: Sampling) -> SamplingParams:
    """vLLM's parameters for ours."""
    own = {name: getattr(sampling, name) for name in Sampling.__dataclass_fields__}
    structure = own.pop("structure")
    if own["max_tokens"] is None:
        own["max_tokens"] = CONTEXT
    for name in ("stop", "stop_token_ids", "bad_words", "allowed_token_ids"):
        own[name] = own[name] if own[name] is None else list(own[name])
    return SamplingParams(**own, structured_outputs=_structured(structure))


def _structured(structure: Structure | None) -> StructuredOutputsParams | None:
    if structure is None:
        return None
    return StructuredOutputsParams(
        json=structure.json_schema,
        regex=structure.regex,
        choice=structure.choice and list(structure.choice),
        json_object=structure.json_object or None,
    )


def shown(made: SamplingParams) -> dict[str, str]:
    """The parameters as text, which tells 1 from 1.0."""
    return {name: repr(getattr(made, name)) for name in made.__struct_fields__ if name not in APART}


def vllms(kind: Any, body: Mapping[str, Any], given: Mapping[str, Any]) -> SamplingParams | None:
    """The parameters that vLLM makes of a body; None if it refuses it.

    The settings' cap stands in the place of vLLM's on the number of stops.
    """
    try:
        read = {key: body[key] for key in body if key not in _apart(body)}
        request = kind.model_validate(read)
        request.stop = body.get("stop", [])
        asked = getattr(request, "max_completion_tokens", None)
        asked = vars(request)["max_tokens"] if asked is None else asked
        longest = given.get("max_tokens", CONTEXT) if asked is None else asked
        made: SamplingParams = request.to_sampling_params(min(longest, CONTEXT), dict(given))
    except (ValidationError, VLLMValidationError):
        return None
    kinds = RequestOutputKind.DELTA, RequestOutputKind.FINAL_ONLY
    assert made.output_kind in kinds
    return made


def _apart(body: Mapping[str, Any]) -> set[str]:
    """Fields that are not for vLLM's model: a choice of tools where there are none, too."""
    choice = body.get("tool_choice") in ("auto", "none") and "tools" not in body
    return {"stop", "tool_choice"} if choice else {"stop"}


def ours(kind: Any, body: Mapping[str, Any], given: Mapping[str, Any]) -> SamplingParams | str:
    """The parameters that our model makes of a body, or the field for which it refuses it."""
    try:
        read, _ = read_body(kind, body, LIMITS, CONTEXT)
        return params(read.sampling(given))
    except InvalidRequest as error:
        return error.param or ""
    except VLLMValidationError:
        # Only a default of the model, which no body has, is met here for the first time.
        return "min_tokens" if "max_tokens" in given else ""


def check(kind: Any, vllm_kind: Any, body: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Compare what the models make of a body; True if they take it."""
    theirs, made = vllms(vllm_kind, body, given), ours(kind, body, given)
    if isinstance(made, str):
        assert made
        assert theirs is None or _two_constraints(body), (body, made)
        return False
    assert theirs is not None, body
    assert shown(made) == shown(theirs)
    return True


def _two_constraints(body: Mapping[str, Any]) -> bool:
    """True for a body of which vLLM may take one constraint, and forget the other."""
    asked = (
        bool(body.get("response_format", {"type": "text"})["type"] != "text"),
        "structured_outputs" in body,
        isinstance(body.get("tool_choice"), dict),
    )
    return sum(asked) > 1


@given(chats, defaults)
def test_a_chat_is_sampled_as_vllm_would(body: dict[str, Any], given: dict[str, Any]) -> None:
    check(ChatBody, ChatCompletionRequest, body, given)


@given(completions, defaults)
def test_a_completion_is_sampled_as_vllm_would(body: dict[str, Any], given: dict[str, Any]) -> None:
    check(CompletionBody, CompletionRequest, body, given)


@given(alone)
def test_a_value_is_out_of_its_range_where_vllm_says_so(field: dict[str, Any]) -> None:
    check(ChatBody, ChatCompletionRequest, {"model": "m", "messages": [HI]} | field, {})
    check(CompletionBody, CompletionRequest, {"model": "m", "prompt": "a"} | field, {})


@given(st.lists(messages, min_size=1, max_size=4))
def test_messages_are_those_that_vllm_reads(said: list[dict[str, Any]]) -> None:
    body = {"model": "m", "messages": said}
    request = ChatCompletionRequest.model_validate(body)
    assert read_body(ChatBody, body, LIMITS, CONTEXT)[0].chat().messages == request.messages


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    "message",
    [
        {"role": "user"},
        {"role": "developer", "content": "a", "name": "b"},
        {"role": "critic", "content": "a"},
        {"role": "tool", "content": "a", "tool_call_id": "1"},
        {"role": "tool", "content": "a", "name": "f"},
        {"role": "assistant", "tool_calls": [CALL]},
        {"role": "assistant", "content": "a", "tool_calls": [CALL], "reasoning": "b"},
        {"role": "assistant", "content": "a", "reasoning_content": "b"},
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": []},
    ],
)
def test_a_message_is_the_one_that_vllm_reads(message: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [message]}
    ours = read_body(ChatBody, body, LIMITS, CONTEXT)[0].chat()
    request = ChatCompletionRequest.model_validate({"model": "m", "messages": [{**message}]})
    theirs = [dict(each) for each in request.messages]
    for each in theirs:
        if not isinstance(each.get("content", ""), str):
            each["content"] = list(each["content"])
    assert ours.messages == theirs


@pytest.mark.parametrize(
    "tool",
    [
        TOOL,
        {"function": {"name": "f"}},
        {"type": "function", "function": {"name": "f", "description": "d", "strict": True}},
    ],
)
def test_a_tool_is_the_one_that_a_template_gets(tool: dict[str, Any]) -> None:
    body = {"model": "m", "messages": [HI], "tools": [tool]}
    request = ChatCompletionRequest.model_validate(body)
    assert request.tools is not None
    (ours,) = read_body(ChatBody, body, LIMITS, CONTEXT)[0].chat().tools
    (theirs,) = (each.model_dump() for each in request.tools)
    assert ours == theirs
    assert list(ours["function"]) == list(theirs["function"])
