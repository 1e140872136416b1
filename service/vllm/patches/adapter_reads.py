"""Counts of the reads of adapters' weights, taken in vLLM's worker, which makes these reads.

vLLM reports which adapters are in memory, but not when one is evicted or read again.
"""

import time
from typing import Any

from service.vllm.patches import Patch

PATCH = Patch(
    "vLLM tells which adapters are in memory, but not when one is evicted or read again",
)

USES = (
    "replaces vllm.lora.worker_manager:WorkerLoRAManager._load_adapter",
    "replaces vllm.lora.worker_manager:WorkerLoRAManager.remove_adapter",
    "reads vllm.v1.worker.lora_model_runner_mixin:LoRAModelRunnerMixin.lora_manager",
)


class AdapterReads:
    """Part of the worker extension: counts reads once `count_adapter_reads` was called."""

    model_runner: Any

    def count_adapter_reads(self) -> None:
        """Count from now on; call it once, before the first adapter is loaded."""
        self._adapter_reads = count_reads(self.model_runner.lora_manager)

    def adapter_reads(self) -> list[tuple[int, int, float]]:
        """For each loaded adapter its id, the number of reads for requests, and their seconds."""
        return [(key, int(reads), seconds) for key, (reads, seconds) in self._adapter_reads.items()]


def count_reads(manager: Any) -> dict[int, tuple[int, float]]:
    """Wrap a WorkerLoRAManager; returns reads and seconds by adapter, kept up to date.

    An adapter's first read is that of `add_lora` and not counted; all later ones are of requests
    whose adapter had been evicted. `remove_lora` forgets an adapter.
    """
    counts: dict[int, tuple[int, float]] = {}
    read, remove = manager._load_adapter, manager.remove_adapter

    def load_adapter(request: Any) -> Any:
        started = time.perf_counter()
        weights = read(request)
        seconds = time.perf_counter() - started
        key = request.lora_int_id
        reads, before = counts.get(key, (-1, -seconds))
        counts[key] = (reads + 1, before + seconds)
        return weights

    def remove_adapter(key: int) -> Any:
        counts.pop(key, None)
        return remove(key)

    manager._load_adapter, manager.remove_adapter = load_adapter, remove_adapter
    return counts
