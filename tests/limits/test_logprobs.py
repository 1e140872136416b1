"""Limits on the log-probabilities of a whole answer."""

import pytest

from service.errors import InvalidRequest
from service.limits.caps import check_answer_logprobs, check_prompt_logprobs
from service.settings.limits import LimitSettings

LIMITS = LimitSettings(answer_logprobs=10_000)


def test_a_whole_answer_holds_so_many_at_most() -> None:
    check_answer_logprobs(2, 1000, 5, LIMITS)
    with pytest.raises(InvalidRequest, match=r"at most 10000 .* 2 x 1001 tokens x 5 = 10010") as no:
        check_answer_logprobs(2, 1001, 5, LIMITS)
    assert no.value.param == "logprobs"


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
