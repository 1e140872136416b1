"""Bodies that are answered without vLLM's handlers."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from service.vllm.answers import parse
from service.vllm.fast.plain.request import (
    PlainRequests,
    is_plain_chat,
    is_plain_completion,
)
from vllm.entrypoints.openai.chat_completion.protocol import ChatCompletionRequest
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

BODY = {"model": "tiny", "prompt": "Once upon"}
SAID = {"role": "user", "content": "Hi"}
CHAT = {"model": "tiny", "messages": [SAID]}

numbers = st.integers(-3, 3) | st.floats(-3, 3)
optional: dict[str, st.SearchStrategy[Any]] = {
    "max_tokens": st.integers(-1, 4096),
    "n": st.just(1),
    "user": st.text(),
    "seed": st.integers(-(1 << 63) + 1, (1 << 63) - 1),
    "top_k": st.integers(-3, 100),
    "ignore_eos": st.booleans(),
    "temperature": numbers,
    "top_p": numbers,
    "min_p": numbers,
    "presence_penalty": numbers,
    "frequency_penalty": numbers,
    "repetition_penalty": numbers,
    "stop": st.text(min_size=1) | st.lists(st.text(min_size=1), max_size=9),
}
streamed_or_not = st.sampled_from([{}, {"stream": False}]) | st.fixed_dictionaries(
    {"stream": st.just(True)},
    optional={"stream_options": st.fixed_dictionaries({"include_usage": st.booleans()})},
)
prompts = st.text(min_size=1) | st.lists(st.integers(0, 1 << 40), min_size=1)
completions = st.builds(
    dict.__or__,
    st.fixed_dictionaries({"model": st.text(), "prompt": prompts}, optional=optional),
    streamed_or_not,
)
messages = st.fixed_dictionaries(
    {"role": st.sampled_from(["system", "user", "assistant"]), "content": st.text()}
)
chats = st.builds(
    dict.__or__,
    st.fixed_dictionaries(
        {"model": st.text(), "messages": st.lists(messages, min_size=1)},
        optional=optional | {"max_completion_tokens": st.integers(-1, 4096)},
    ),
    streamed_or_not,
)


def fields(request: Any) -> dict[str, Any]:
    """The fields as text, which tells 1 from 1.0; the order of a message's keys does not count."""
    said = [sorted(each.items()) for each in getattr(request, "messages", ())]
    shown = vars(request) | {"messages": said, "request_id": ""}
    return {name: repr(value) for name, value in shown.items()}


@given(completions)
def test_a_plain_completion_makes_the_request_that_vllms_model_makes(body: dict[str, Any]) -> None:
    assert is_plain_completion(body)
    made = PlainRequests(CompletionRequest, {"prompt": "any"}).make(body).request
    assert fields(made) == fields(parse(CompletionRequest, body))


@given(chats)
def test_a_plain_chat_makes_the_request_that_vllms_model_makes(body: dict[str, Any]) -> None:
    assert is_plain_chat(body)
    made = PlainRequests(ChatCompletionRequest, {"messages": [SAID]}).make(body).request
    assert fields(made) == fields(parse(ChatCompletionRequest, body))


MORE: list[dict[str, Any]] = [
    {"n": 2},
    {"n": True},
    {"n": 1.0},
    {"stream": 0},
    {"max_tokens": "5"},
    {"temperature": "1"},
    {"temperature": True},
    {"seed": 1.0},
    {"top_k": 1.0},
    {"ignore_eos": 1},
    {"user": 7},
    {"echo": True},
    {"logprobs": 0},
    {"prompt_logprobs": 1},
    {"suffix": "x"},
    {"stop_token_ids": [1]},
    {"logit_bias": {"1": 1}},
    {"response_format": {"type": "text"}},
    {"return_token_ids": False},
    {"stream": True, "stream_options": {}},
    {"stream": True, "stream_options": {"include_usage": None}},
    {"stream": True, "stream_options": {"include_usage": 1}},
    {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
    {"truncate_prompt_tokens": 1},
    {"unknown": None},
]
PROMPTS = [["a"], ["a", "b"], [[1, 2]], [1, True], [1, -1], 5]
MESSAGES: list[Any] = [
    None,
    [SAID, "Hi"],
    [SAID | {"role": "tool"}],
    [SAID | {"role": ["user"]}],
    [SAID | {"content": [{"type": "text", "text": "Hi"}]}],
    [SAID | {"content": None}],
    [SAID | {"name": "me"}],
    [{"role": "assistant"}],
]


@pytest.mark.parametrize("more", [*MORE, *({"prompt": each} for each in PROMPTS)], ids=str)
def test_any_other_completion_is_left_to_vllms_handler(more: dict[str, Any]) -> None:
    assert is_plain_completion(BODY)
    assert not is_plain_completion(BODY | more)


@pytest.mark.parametrize(
    "more",
    [
        *MORE,
        *({"messages": each} for each in MESSAGES),
        {"max_completion_tokens": 1.0},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"continue_final_message": True},
    ],
    ids=str,
)
def test_any_other_chat_is_left_to_vllms_handler(more: dict[str, Any]) -> None:
    assert is_plain_chat(CHAT)
    assert not is_plain_chat(CHAT | more)


def test_a_body_without_a_prompt_or_messages_is_left_to_vllms_handler() -> None:
    assert not is_plain_completion({"model": "tiny"})
    assert not is_plain_chat({"model": "tiny"})


@pytest.mark.parametrize(
    ("is_plain", "body"),
    [(is_plain_completion, BODY), (is_plain_chat, CHAT)],
    ids=["completion", "chat"],
)
def test_options_of_a_stream_are_left_to_vllms_handler_where_there_is_none(
    is_plain: Callable[[Any], bool], body: dict[str, Any]
) -> None:
    asked = {"stream_options": {"include_usage": True}}
    assert is_plain(body | {"stream": True} | asked)
    assert not is_plain(body | asked)


@pytest.mark.parametrize(
    ("more", "same"),
    [
        ({"prompt": "Another", "user": "someone", "model": "other"}, True),
        ({"max_tokens": 6}, False),
        ({"temperature": 0.5}, False),
        ({"stream": True}, False),
    ],
    ids=str,
)
def test_requests_share_parameters_if_what_decides_these_is_equal(
    more: dict[str, Any], same: bool
) -> None:
    requests = PlainRequests(CompletionRequest, {"prompt": "any"})
    first, second = (requests.make({"max_tokens": 5} | BODY | each) for each in ({}, more))
    assert first.sampled is not None
    assert (first.sampled == second.sampled) is same


@pytest.mark.parametrize("more", [{"seed": 1}, {"stop": ["."]}], ids=str)
def test_parameters_that_few_requests_have_are_not_kept(more: dict[str, Any]) -> None:
    requests = PlainRequests(CompletionRequest, {"prompt": "any"})
    assert requests.make(BODY | more).sampled is None
