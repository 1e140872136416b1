"""One generation as vLLM is asked for it."""

from typing import Any

import pytest
from service.vllm.generation import Generation
from service.vllm.rank import Rank
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams

from service.context import enter_context, internal_context
from service.engine.contract import Job
from service.vllm.errors import explain


async def test_a_request_that_stands_back_is_of_the_next_rank() -> None:
    enter_context(internal_context("test", 600.0))
    ranks = []
    for stands_back in (False, True):
        prompt = {"prompt_token_ids": [1, 2]}
        job = Job("id", prompt, SamplingParams(max_tokens=3), priority=int(Rank.WITHIN_SHARE))
        generation = Generation(job, 64)
        demand = generation.demand
        if stands_back:
            assert demand.stand_back is not None
            demand.stand_back()
        ranks.append(generation.job().priority)
    assert ranks == [Rank.WITHIN_SHARE, Rank.ABOVE_SHARE]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("presence_penalty", 3.0),
        ("frequency_penalty", -3.0),
        ("repetition_penalty", 0.0),
        ("temperature", 3.0),
        ("top_p", 0.0),
        ("top_k", -5),
        ("min_p", 2.0),
        ("min_tokens", -1),
        ("min_tokens", 99),
        ("max_tokens", 0),
        ("logprobs", -2),
        ("stop", [""]),
        ("stop_token_ids", ["a"]),
        ("bad_words", [""]),
        ("n", 0),
    ],
)
def test_a_refusal_of_vllms_has_its_field(field: str, value: Any) -> None:
    with pytest.raises(VLLMValidationError) as refused:
        SamplingParams(**{"max_tokens": 3, field: value})
    error = explain(refused.value)
    assert error is not None
    assert error.param == field
    assert field in error.message


@pytest.mark.parametrize(
    "message",
    [
        "Cannot set both `continue_final_message` and `add_generation_prompt` to True.",
        "detokenize must be set to use stop strings.",
        "The decoder prompt cannot be empty",
        "user and assistant must alternate",
    ],
)
def test_a_refusal_that_begins_with_no_field_has_none(message: str) -> None:
    error = explain(ValueError(message))
    assert error is not None
    assert (error.param, error.message) == (None, message)
