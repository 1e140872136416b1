"""One generation as the engine is asked for it, and the refusals of vLLM."""

from typing import Any

import pytest
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams

from service.admission.admitted import Rank
from service.admission.slots import HeldSlots
from service.context import current_context
from service.engine.contract import Job, Sampling, Sink
from service.generation.fold import Fold
from service.vllm.conversion import explain
from tests.fake_engines import fake_engine


@pytest.mark.parametrize(
    ("flex", "above", "rank"),
    [
        (False, False, Rank.WITHIN_SHARE),
        (False, True, Rank.ABOVE_SHARE),
        (True, False, Rank.FLEX),
    ],
)
async def test_a_request_has_the_rank_of_its_tier_and_its_tenants_share(
    flex: bool, above: bool, rank: Rank, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _ = fake_engine()
    if flex:
        current_context().become_flex()
    asked: list[Job] = []
    run = engine.raw.run

    async def noting(job: Job, sink: Sink) -> None:
        asked.append(job)
        await run(job, sink)

    monkeypatch.setattr(engine.raw, "run", noting)
    monkeypatch.setattr(HeldSlots, "above_share", above)
    await engine.run(Job([1, 2], Sampling(max_tokens=3)), Fold())
    (job,) = asked
    assert job.priority == rank


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
