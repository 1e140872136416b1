"""The rows of a batch of vLLM's change each other's answers, by its sampler, adapters and seeds.

- The V1 sampler is replaced (`row_sampler`).
- The log-probabilities of prompts are computed request by request, but with the output layer's
  adapters of the rows that the step samples: another request's adapter, or an error that ends the
  engine where the numbers of rows differ. This concerns models whose output layer is not a copy of
  the embedding, with any adapter.
- vLLM samples a token for every row of a step and drops those of unfinished prompts. Then it
  rewinds their generators by an offset, which torch's CPU generators do not have, so the engine
  ends.

The ADR docs/decisions/0017-answers-that-no-neighbour-changes.md says when to remove this.
"""

from typing import Any

import numpy as np
from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA
from vllm.v1.sample.sampler import Sampler

from service.settings import section as platform
from service.vllm.patches.adapter_operators import GroupedPunicaWrapper
from service.vllm.patches.row_sampler import RowRejectionSampler, RowSampler

USES = (
    "reads vllm.lora.model_manager:LoRAModelManager.punica_wrapper_mapping",
    "reads vllm.lora.worker_manager:WorkerLoRAManager._adapter_manager",
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner._get_prompt_logprobs_dict",
    "reads vllm.v1.worker.gpu_model_runner:GPUModelRunner.discard_request_mask",
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner.num_prompt_logprobs",
    "reads vllm.v1.worker.gpu_model_runner:GPUModelRunner.query_start_loc",
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner.rejection_sampler",
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner.sample_tokens",
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner.sampler",
)


def keep_rows_apart(runner: Any) -> bool:
    """Repair a model runner; True if prompts have the adapters of their own requests.

    Model runner V2 has its own sampler, which is correct.
    """
    if not isinstance(runner.sampler, Sampler):
        return False
    runner.sampler = own = RowSampler(runner.sampler, runner.model_config.max_logprobs)
    if runner.speculative_config is not None:
        runner.rejection_sampler = RowRejectionSampler(runner.rejection_sampler, own)
    if platform.installed() is not platform.CPU:
        return False
    _keep_unsampled_seeds(runner)
    if not runner.lora_config:
        return False
    # The language model's manager comes first; multimodal models have more.
    operators, *_ = runner.lora_manager._adapter_manager.punica_wrapper_mapping.values()
    if not isinstance(operators, GroupedPunicaWrapper):
        return False
    _keep_prompt_adapters(runner, operators)
    return True


def adapts_output_layer(runner: Any) -> bool:
    """True if the output layer has places for adapters.

    vLLM 0.32 takes the adapters of the rows that the step samples
    (`PunicaWrapperGPU.add_lora_logits`). Where the output layer has places for adapters, other
    requests' adapters are added to the log-probabilities of prompts, and where a prompt's last part
    has fewer rows than are sampled, the kernels read and write beyond the part.
    """
    modules = runner.get_model().modules()
    return any(isinstance(module, LogitsProcessorWithLoRA) for module in modules)


def _keep_prompt_adapters(runner: Any, wrapper: GroupedPunicaWrapper) -> None:
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


def _keep_unsampled_seeds(runner: Any) -> None:
    """Have a CPUModelRunner hide, while it samples, the generators of prompts not yet read.

    The tokens of their rows are dropped, so a seed's answer is the same however its prompt was
    split into steps.
    """
    sample_tokens = runner.sample_tokens

    def sample(grammar: Any) -> Any:
        batch = runner.input_batch
        unfinished = np.flatnonzero(runner.discard_request_mask.np[: batch.num_reqs]).tolist()
        hidden = {row: batch.generators.pop(row) for row in unfinished if row in batch.generators}
        try:
            return sample_tokens(grammar)
        finally:
            batch.generators.update(hidden)

    runner.sample_tokens = sample
