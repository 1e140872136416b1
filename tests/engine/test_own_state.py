"""The service's own states of requests beside those of vLLM, in vLLM's statistics."""

from types import SimpleNamespace
from typing import Any

import pytest
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import (
    EngineCoreEvent,
    EngineCoreEventType,
    EngineCoreOutput,
    EngineCoreRequest,
    FinishReason,
)
from vllm.v1.engine.output_processor import OutputProcessor
from vllm.v1.metrics.stats import IterationStats, PrefillStats

from service.vllm.fast.request import LabelRequest, OutputDispatcher, Step, only_tokens

QUEUED, SCHEDULED = EngineCoreEventType.QUEUED, EngineCoreEventType.SCHEDULED
OUTPUTS = [
    EngineCoreOutput(
        "one",
        [5],
        events=[EngineCoreEvent(QUEUED, 1.0), EngineCoreEvent(SCHEDULED, 1.5)],
        prefill_stats=PrefillStats(num_prompt_tokens=3, num_computed_tokens=3),
    ),
    EngineCoreOutput("one", [6]),
    EngineCoreOutput("one", [7, 8]),
    EngineCoreOutput("one", [9], finish_reason=FinishReason.LENGTH),
]


@pytest.fixture
def processor() -> OutputProcessor:
    return OutputProcessor(None, log_stats=True)


def request() -> EngineCoreRequest:
    return EngineCoreRequest(
        request_id="one",
        prompt_token_ids=[1, 2, 3],
        mm_features=None,
        sampling_params=SamplingParams(max_tokens=5, detokenize=False),
        pooling_params=None,
        arrival_time=0.0,
        lora_request=LoRARequest(lora_name="adapter", lora_int_id=1, lora_path="/none"),
        cache_salt=None,
        data_parallel_rank=None,
        external_req_id="one",
    )


def counted(stats: IterationStats) -> dict[str, Any]:
    """The numbers of a step, without the time at which it was made and what follows from it."""
    numbers: dict[str, Any] = dict(vars(stats))
    numbers["iteration_timestamp"] = numbers["time_to_first_tokens_iter"] = 0.0
    numbers["finished_requests"] = [
        vars(each) | {"e2e_latency": 0.0} for each in stats.finished_requests
    ]
    return numbers


def own_request(processor: OutputProcessor) -> LabelRequest:
    llm: Any = SimpleNamespace(output_processor=processor)
    return LabelRequest(llm, OutputDispatcher(processor), request())


async def test_an_own_state_is_counted_as_vllms_is(processor: OutputProcessor) -> None:
    own, theirs = own_request(processor), OutputProcessor(None, log_stats=True)
    theirs.add_request(request(), None)
    for second, output in enumerate(OUTPUTS, start=2):
        step, stats = Step(float(second), IterationStats()), IterationStats()
        if only_tokens(output):
            step.tally(own.stats, len(output.new_token_ids))
        else:
            own.count(output, step)
        theirs.process_outputs([output], float(second), stats)
        assert counted(step.stats) == counted(stats)
        assert dict(processor.lora_states.requests).keys() == theirs.lora_states.requests.keys()


async def test_an_aborted_request_leaves_the_count_of_its_adapter(
    processor: OutputProcessor,
) -> None:
    state = own_request(processor)
    state.count(OUTPUTS[0], Step(2.0, IterationStats()))
    assert processor.lora_states.requests["adapter"].running == {"one"}
    state.drop()
    assert not processor.lora_states.requests
