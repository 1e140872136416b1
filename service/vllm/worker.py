"""Additions of this service to vLLM's worker, called through `collective_rpc`."""

from typing import Any

from service.vllm.patches.adapter_reads import AdapterReads
from service.vllm.process import own_place

WORKER_EXTENSION = "service.vllm.worker.WorkerExtension"


class WorkerExtension(AdapterReads):
    """Mixed into vLLM's worker by `worker_extension_cls`."""

    model_runner: Any
    _reads_prompts = False

    def place(self) -> tuple[str, int]:
        """The node of this worker and the number of its process there."""
        return own_place()

    def keep_rows_apart(self) -> None:
        """Repair the faults by which rows of a batch change each other's answers; call it once.

        Model runner V2 has its own sampler, which is correct.
        """
        from vllm.platforms import current_platform
        from vllm.v1.sample.sampler import Sampler

        from service.vllm.patches.row_sampler import RowSampler

        runner = self.model_runner
        if not isinstance(runner.sampler, Sampler):
            return
        runner.sampler = RowSampler(runner.sampler, runner.model_config.max_logprobs)
        if current_platform.is_cpu():
            self._reads_prompts = _mend_cpu(runner)

    def reads_prompts(self) -> bool:
        """True if log-probabilities of prompts are computed with the adapter of their request.

        vLLM 0.32 takes the adapters of the rows that the step samples
        (`PunicaWrapperGPU.add_lora_logits`). Where the output layer has places for adapters, other
        requests' adapters are added, and where a prompt's last part has fewer rows than are
        sampled, the kernels read and write beyond the part.
        """
        from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA

        modules = self.model_runner.get_model().modules()
        return self._reads_prompts or not any(
            isinstance(module, LogitsProcessorWithLoRA) for module in modules
        )


def _mend_cpu(runner: Any) -> bool:
    """Repair what concerns the CPU build alone; True if prompts have their own adapters."""
    from service.vllm.cpu.adapter_operators import GroupedPunicaWrapper
    from service.vllm.patches.prompt_adapters import keep_prompt_adapters
    from service.vllm.patches.unsampled_seeds import keep_unsampled_seeds

    keep_unsampled_seeds(runner)
    if runner.lora_config:
        # The language model's manager comes first; multimodal models have more.
        operators, *_ = runner.lora_manager._adapter_manager.punica_wrapper_mapping.values()
        if isinstance(operators, GroupedPunicaWrapper):
            keep_prompt_adapters(runner, operators)
            return True
    return False
