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
        """The node and the id of this worker's process."""
        return own_place()

    def keep_rows_apart(self) -> None:
        """Repair the faults by which rows of a batch change each other's answers; call it once."""
        from service.vllm.patches.rows import keep_rows_apart

        self._reads_prompts = keep_rows_apart(self.model_runner)

    def reads_prompts(self) -> bool:
        """True if log-probabilities of prompts are computed with the adapter of their request."""
        from service.vllm.patches.rows import adapts_output_layer

        return self._reads_prompts or not adapts_output_layer(self.model_runner)
