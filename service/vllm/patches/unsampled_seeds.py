"""Seeds on the CPU build for prompts that are read in several steps.

vLLM 0.32 samples a token for every row of a step and drops those of unfinished prompts. Then it
rewinds their generators by an offset, which torch's CPU generators do not have, so the engine ends.
The ADR docs/decisions/0017-answers-that-no-neighbour-changes.md says when to remove this.
"""

from typing import Any

import numpy as np

from service.vllm.patches import Patch

PATCH = Patch(
    "vLLM rewinds torch's CPU generators by an offset that they do not have, which ends the engine",
)

USES = (
    "reads vllm.v1.worker.gpu_model_runner:GPUModelRunner.discard_request_mask",
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner.sample_tokens",
)


def keep_unsampled_seeds(runner: Any) -> None:
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
