"""One generation as vLLM is asked for it."""

from collections import Counter
from types import SimpleNamespace
from typing import Any

from vllm.sampling_params import SamplingParams

from service.context import enter_context, internal_context
from service.vllm_engine.generation import Generation
from service.vllm_engine.rank import Rank


class Asked:
    """Implements what a generation calls of AsyncLLM; remembers the options."""

    model_config = SimpleNamespace(max_model_len=64)

    def __init__(self) -> None:
        self.options: list[dict[str, Any]] = []

    async def add_request(self, *_: Any, **options: Any) -> None:
        self.options.append(options)


async def test_a_request_that_stands_back_is_of_the_next_rank() -> None:
    enter_context(internal_context("test", 5.0))
    engine, made = Asked(), {"priority": int(Rank.WITHIN_SHARE), "data_parallel_rank": None}
    prompt = {"prompt_token_ids": [1, 2]}
    for stands_back in (False, True):
        params = SamplingParams(max_tokens=3)
        generation = Generation(engine, prompt, params, "id", made, Counter())
        demand = generation.demand
        if stands_back:
            assert demand.stand_back is not None
            demand.stand_back()
        await generation.add()
    assert [each["priority"] for each in engine.options] == [Rank.WITHIN_SHARE, Rank.ABOVE_SHARE]
    assert made["priority"] == Rank.WITHIN_SHARE
