"""Bodies of completions that are answered without vLLM's handler."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from vllm.entrypoints.openai.completion.protocol import CompletionRequest

from service.context import enter_context, internal_context
from service.vllm_engine.answers import parse
from service.vllm_engine.plain_completion import PlainRequests, is_plain_completion

BODY = {"model": "tiny", "prompt": "Once upon"}

numbers = st.integers(-3, 3) | st.floats(-3, 3)
plain_bodies = st.fixed_dictionaries(
    {
        "model": st.text(),
        "prompt": st.text(min_size=1) | st.lists(st.integers(0, 1 << 40), min_size=1),
    },
    optional={
        "max_tokens": st.integers(-1, 4096),
        "n": st.just(1),
        "stream": st.just(False),
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
    },
)


def fields(request: CompletionRequest) -> dict[str, str]:
    """The fields as text, which tells 1 from 1.0."""
    return {name: repr(value) for name, value in vars(request).items()}


@given(plain_bodies)
def test_a_plain_body_makes_the_request_that_vllms_model_makes(body: dict[str, Any]) -> None:
    enter_context(internal_context("test", 5.0))
    assert is_plain_completion(body)
    made = PlainRequests().make(body)
    wanted = parse(CompletionRequest, body | {"request_id": made.request_id})
    assert fields(made) == fields(wanted)


@pytest.mark.parametrize(
    "more",
    [
        {"prompt": ["a"]},
        {"prompt": ["a", "b"]},
        {"prompt": [[1, 2]]},
        {"prompt": [1, True]},
        {"prompt": [1, -1]},
        {"prompt": 5},
        {"n": 2},
        {"n": True},
        {"n": 1.0},
        {"stream": True},
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
        {"stream_options": {"include_usage": True}},
        {"truncate_prompt_tokens": 1},
        {"unknown": None},
    ],
    ids=str,
)
def test_any_other_body_is_left_to_vllms_handler(more: dict[str, Any]) -> None:
    assert is_plain_completion(BODY)
    assert not is_plain_completion(BODY | more)


def test_a_body_without_a_prompt_is_left_to_vllms_handler() -> None:
    assert not is_plain_completion({"model": "tiny"})
