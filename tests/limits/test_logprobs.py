"""Limits on the log-probabilities of a whole answer."""

from typing import Any

import pytest

from service.errors import InvalidRequest
from service.limits.logprobs import check_prompt_logprobs
from service.openai.body import read_body
from service.openai.chat_body import ChatBody
from service.openai.completion_body import CompletionBody
from service.settings.limits import LimitSettings

CONTEXT = 2048
LIMITS = LimitSettings(answer_logprobs=10_000, n=16)
SAID = [{"role": "user", "content": "a"}]


def check_logprobs(body: dict[str, Any]) -> None:
    """Read a chat, or a completion if its log-probabilities are a number."""
    if "prompt" in body or type(body.get("logprobs")) is int:
        read_body(CompletionBody, {"model": "m", "prompt": "a"} | body, LIMITS, CONTEXT)
    else:
        read_body(ChatBody, {"model": "m", "messages": SAID} | body, LIMITS, CONTEXT)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"n": 16, "max_tokens": 2048},
        {"logprobs": False, "top_logprobs": 20, "n": 16},
        {"logprobs": True},
        {"logprobs": True, "top_logprobs": 4, "max_tokens": 2000},
        {"logprobs": True, "top_logprobs": 4, "max_completion_tokens": 1000, "n": 2},
        {"logprobs": True, "top_logprobs": 20, "n": 16, "stream": True},
        {"logprobs": 0, "prompt": ["a"] * 4, "max_tokens": 2048},
        {"logprobs": 4, "prompt": [1, 2, 3], "max_tokens": 2000},
        {"logprobs": 20, "prompt": ["a"] * 2, "n": 8},
        {"logprobs": 20, "prompt": "a", "n": 16, "max_tokens": None},
        {"logprobs": True, "top_logprobs": None, "n": None, "max_tokens": None},
        {"logprobs": True, "top_logprobs": 20, "max_completion_tokens": 9, "max_tokens": 2000},
    ],
)
def test_what_is_within_the_cap_or_streamed_passes(body: dict[str, Any]) -> None:
    check_logprobs(body)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"logprobs": True, "top_logprobs": 4}, "1 x 2048 tokens x 5 = 10240"),
        ({"logprobs": True, "n": 16, "max_tokens": 1000}, "16 x 1000 tokens x 1 = 16000"),
        (
            {"logprobs": True, "n": 16, "max_tokens": 1, "max_completion_tokens": 1000},
            "16 x 1000 tokens x 1 = 16000",
        ),
        ({"logprobs": True, "top_logprobs": 20, "max_tokens": 10**9}, "x 2048 tokens x 21"),
        ({"logprobs": 1, "prompt": ["a", "b"], "n": 4, "max_tokens": 2000}, "8 x 2000 tokens x 2"),
        ({"logprobs": 4, "prompt": [[1], [2]], "max_tokens": 1001}, "2 x 1001 tokens x 5"),
        ({"logprobs": True, "top_logprobs": 4, "stream": False}, "at most 10000 in an answer"),
    ],
)
def test_what_would_hold_more_is_refused(body: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidRequest, match=said) as refused:
        check_logprobs(body)
    assert refused.value.param == "logprobs"


def test_those_of_prompts_can_be_switched_off() -> None:
    none = LimitSettings(echo_logprobs=0)
    check_prompt_logprobs(0, none)
    with pytest.raises(InvalidRequest, match=r"none of prompts here .* limits.echo_logprobs is 0"):
        check_prompt_logprobs(1, none)


@pytest.mark.parametrize(("total", "passes"), [(0, True), (4096, True), (4097, False)])
def test_those_of_prompts_are_capped(total: int, passes: bool) -> None:
    if passes:
        check_prompt_logprobs(total, LIMITS)
        return
    with pytest.raises(InvalidRequest, match="at most 4096 for the prompts") as refused:
        check_prompt_logprobs(total, LIMITS)
    assert refused.value.param == "logprobs"
