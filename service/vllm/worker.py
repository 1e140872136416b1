"""Additions of this service to vLLM's worker, called through `collective_rpc`.

vLLM reports which adapters are in memory, but not when it evicts one or reads one again, so the
worker counts the reads here.
"""

import time
from typing import Any

from service.vllm.process import own_place

USES = (
    "replaces vllm.lora.worker_manager:WorkerLoRAManager._load_adapter, remove_adapter",
    "reads vllm.v1.worker.lora_model_runner_mixin:LoRAModelRunnerMixin.lora_manager",
)

WORKER_EXTENSION = "service.vllm.worker.WorkerExtension"


class WorkerExtension:
    """Additional methods of vLLM's worker, set by `worker_extension_cls`."""

    model_runner: Any
    _reads_prompts = False

    def place(self) -> tuple[str, int]:
        """The node and the id of this worker's process."""
        return own_place()

    def keep_rows_apart(self) -> None:
        """Patch vLLM so that rows of a batch do not change each other's answers; call it once."""
        from service.vllm.patches.rows import keep_rows_apart

        self._reads_prompts = keep_rows_apart(self.model_runner)

    def reads_prompts(self) -> bool:
        """True if prompt log-probabilities are computed with the adapter of their own request."""
        from service.vllm.patches.rows import adapts_output_layer

        return self._reads_prompts or not adapts_output_layer(self.model_runner)

    def count_adapter_reads(self) -> None:
        """Count reads from now on; call it once, before the first adapter is loaded.

        An adapter's first read, by `add_lora`, is not counted; later ones happen for requests whose
        adapter was evicted. `remove_lora` removes an adapter's count.
        """
        self._adapter_reads: dict[int, tuple[int, float]] = {}
        manager, counts = self.model_runner.lora_manager, self._adapter_reads
        read, remove = manager._load_adapter, manager.remove_adapter

        def load_adapter(request: Any) -> Any:
            started = time.perf_counter()
            weights = read(request)
            seconds = time.perf_counter() - started
            reads, before = counts.get(request.lora_int_id, (-1, -seconds))
            counts[request.lora_int_id] = (reads + 1, before + seconds)
            return weights

        def remove_adapter(key: int) -> Any:
            counts.pop(key, None)
            return remove(key)

        manager._load_adapter, manager.remove_adapter = load_adapter, remove_adapter

    def adapter_reads(self) -> list[tuple[int, int, float]]:
        """For each loaded adapter its id, the number of reads for requests, and their seconds."""
        return [(key, reads, seconds) for key, (reads, seconds) in self._adapter_reads.items()]
