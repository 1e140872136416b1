"""The output layer's adapters for the log-probabilities of prompts (`echo` with `logprobs`).

vLLM 0.32 computes these request by request, but with the adapters of the rows that the step
samples: another request's adapter, or an error that ends the engine where the numbers of rows
differ. This concerns models whose output layer is not a copy of the embedding, with any adapter.
"""

from typing import Any

from service.vllm.patches import Patch
from service.vllm.patches.adapter_operators import GroupedPunicaWrapper

PATCH = Patch(
    "vLLM computes log-probabilities of prompts with the adapters of the rows that it samples",
)

USES = (
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner._get_prompt_logprobs_dict",
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner.num_prompt_logprobs",
    "reads vllm.v1.worker.gpu_model_runner:GPUModelRunner.query_start_loc",
)


def keep_prompt_adapters(runner: Any, wrapper: GroupedPunicaWrapper) -> None:
    """Have a V1 model runner compute each prompt's logits with the adapter of its request."""
    logprobs_of = runner._get_prompt_logprobs_dict

    def one_by_one(hidden_states: Any, scheduled: Any) -> dict[str, Any]:
        wanted = runner.num_prompt_logprobs
        found: dict[str, Any] = {}
        for request, count in list(wanted.items()):
            if request not in scheduled:
                continue
            row = runner.input_batch.req_id_to_index[request]
            # vLLM removes a request once its prompt is read.
            runner.num_prompt_logprobs = {request: count}
            with wrapper.logits_of(int(runner.query_start_loc.np[row])):
                found |= logprobs_of(hidden_states, scheduled)
            if not runner.num_prompt_logprobs:
                del wanted[request]
        runner.num_prompt_logprobs = wanted
        return found

    runner._get_prompt_logprobs_dict = one_by_one
