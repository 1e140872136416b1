"""vLLM's V1 sampler of drafted tokens, with each row's log-probabilities as if the row were alone.

With speculation vLLM 0.32 samples every step by its rejection sampler. That one gives label reads
no log-probabilities, and ends the engine where another row of the step wants any. The ADR
docs/decisions/0017-answers-that-no-neighbour-changes.md says when to remove this module.
"""

from dataclasses import replace
from typing import Any

import torch
from vllm.v1.outputs import LogprobsTensors, SamplerOutput
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata

from service.vllm.patches import Patch
from service.vllm.patches.row_sampler import RowSampler, merged, narrowed

PATCH = Patch(
    "beside drafted tokens vLLM gives label reads nothing, and a neighbour's read ends it"
)

USES = (
    "reads vllm.v1.spec_decode.metadata:SpecDecodeMetadata.cu_num_sampled_tokens",
    "reads vllm.v1.spec_decode.metadata:SpecDecodeMetadata.max_spec_len",
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner.rejection_sampler",
)


class RowRejectionSampler(torch.nn.Module):  # type: ignore[misc] # torch is not followed by mypy
    """Samples steps with drafts as `rejections` does, and those without as `sampler` does."""

    def __init__(self, rejections: Any, sampler: RowSampler) -> None:
        super().__init__()
        self.rejections = rejections
        self.sampler = sampler

    def forward(
        self,
        metadata: SpecDecodeMetadata,
        draft_probs: torch.Tensor | None,
        logits: torch.Tensor,
        sampling_metadata: SamplingMetadata,
    ) -> SamplerOutput:
        """Sample tokens of each row; arguments and result are those of vLLM's sampler."""
        if not metadata.max_spec_len:
            return self.sampler(logits=logits, sampling_metadata=sampling_metadata)
        wanted, reads = sampling_metadata.max_num_logprobs, sampling_metadata.logprob_token_ids
        # The rejection sampler may write into the logits.
        first = logits[_first_rows(metadata)] if reads else None
        output = self.rejections(
            metadata,
            draft_probs,
            logits,
            replace(
                sampling_metadata,
                max_num_logprobs=self.sampler.width(wanted, logits.shape[1]),
                logprob_token_ids=None,
            ),
        )
        tensors = output.logprobs_tensors
        if tensors is not None and wanted is not None and wanted >= 0:
            tensors = narrowed(tensors, wanted)
        if reads and first is not None:
            tensors = self._with_labels(tensors, first, reads, output.sampled_token_ids)
        output.logprobs_tensors = tensors
        return output

    def _with_labels(
        self,
        tensors: LogprobsTensors | None,
        logits: torch.Tensor,
        reads: dict[int, list[int]],
        sampled: torch.Tensor,
    ) -> LogprobsTensors:
        """The log-probabilities at each place of a step; a read's only place has the labels'.

        `logits` are those of the first token of each row, `sampled` has [rows, places].
        """
        labels = self.sampler.gather_specific_token_logprobs(
            self.sampler.compute_logprobs(logits), reads, sampled[:, 0].long()
        )
        places = sampled.shape[1]
        labels = labels._replace(
            logprob_token_ids=labels.logprob_token_ids.repeat_interleave(places, 0),
            logprobs=labels.logprobs.repeat_interleave(places, 0),
            selected_token_ranks=labels.selected_token_ranks.repeat_interleave(places, 0),
        )
        if tensors is None:
            return labels
        return merged(tensors, labels, [row * places for row in reads])


def _first_rows(metadata: SpecDecodeMetadata) -> torch.Tensor:
    """The row of logits of each request's first token of the step."""
    ends = metadata.cu_num_sampled_tokens
    return torch.cat([ends.new_zeros(1), ends[:-1]]).long()
