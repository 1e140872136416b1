"""Repairs in a worker, so that the rows of a batch do not change each other's answers."""

from typing import Any

from service.settings import section as platform
from service.vllm.versions import installed_version

USES = (
    "reads vllm.lora.model_manager:LoRAModelManager.punica_wrapper_mapping",
    "reads vllm.lora.worker_manager:WorkerLoRAManager._adapter_manager",
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner.sampler",
)


def keep_rows_apart(runner: Any) -> bool:
    """Repair a model runner; True if prompts have the adapters of their own requests.

    Model runner V2 has its own sampler, which is correct.
    """
    from vllm.v1.sample.sampler import Sampler

    from service.vllm.patches import row_rejections, row_sampler

    if not isinstance(runner.sampler, Sampler):
        return False
    version = installed_version()
    if row_sampler.PATCH.applies(version):
        most = runner.model_config.max_logprobs
        runner.sampler = own = row_sampler.RowSampler(runner.sampler, most)
        if runner.speculative_config is not None and row_rejections.PATCH.applies(version):
            theirs = runner.rejection_sampler
            runner.rejection_sampler = row_rejections.RowRejectionSampler(theirs, own)
    return platform.installed() is platform.CPU and _mend_cpu(runner)


def adapts_output_layer(runner: Any) -> bool:
    """True if the output layer has places for adapters.

    vLLM 0.32 takes the adapters of the rows that the step samples
    (`PunicaWrapperGPU.add_lora_logits`). Where the output layer has places for adapters, other
    requests' adapters are added to the log-probabilities of prompts, and where a prompt's last part
    has fewer rows than are sampled, the kernels read and write beyond the part.
    """
    from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA

    modules = runner.get_model().modules()
    return any(isinstance(module, LogitsProcessorWithLoRA) for module in modules)


def _mend_cpu(runner: Any) -> bool:
    """Repair what concerns the CPU build alone; True if prompts have their own adapters."""
    from service.vllm.patches import prompt_adapters, unsampled_seeds
    from service.vllm.patches.adapter_operators import GroupedPunicaWrapper

    if unsampled_seeds.PATCH.applies(installed_version()):
        unsampled_seeds.keep_unsampled_seeds(runner)
    if runner.lora_config:
        # The language model's manager comes first; multimodal models have more.
        operators, *_ = runner.lora_manager._adapter_manager.punica_wrapper_mapping.values()
        if isinstance(operators, GroupedPunicaWrapper):
            prompt_adapters.keep_prompt_adapters(runner, operators)
            return True
    return False
