"""In a batch of vLLM's, a label read changes the log-probabilities that other rows get.

vLLM 0.32 answers a batch that holds a label read with the labels' log-probabilities only, and the
choice among equally likely tokens depends on the widest row. Beside drafted tokens its rejection
sampler gives label reads no log-probabilities, and ends the engine where another row of the step
wants any. Here each row of model runner V1 gets what it would get alone. The ADR
docs/decisions/0017-answers-that-no-neighbour-changes.md says when to remove this module.
"""

from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import pad
from vllm.v1.outputs import LogprobsTensors, SamplerOutput
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata

USES = (
    "extends vllm.v1.sample.sampler:Sampler.__init__",
    "extends vllm.v1.sample.sampler:Sampler.forward",
    "reads vllm.v1.sample.sampler:Sampler.gather_logprobs",
    "reads vllm.v1.sample.sampler:Sampler.gather_specific_token_logprobs",
    "reads vllm.v1.spec_decode.metadata:SpecDecodeMetadata.cu_num_sampled_tokens",
    "reads vllm.v1.spec_decode.metadata:SpecDecodeMetadata.max_spec_len",
)


class RowSampler(Sampler):  # type: ignore[misc]
    """Sampler that gives label reads their labels and every other row its most likely tokens."""

    def __init__(self, sampler: Sampler, most: int) -> None:
        """Sample as `sampler` does; `most` is vLLM's `max_logprobs`, the alternatives per request.

        With -1, no maximum, ties are decided as in vLLM.
        """
        super().__init__(sampler.logprobs_mode, sampler.use_fp64_gumbel)
        self._most = most

    def forward(
        self, logits: torch.Tensor, sampling_metadata: SamplingMetadata, *args: Any, **kwargs: Any
    ) -> SamplerOutput:
        wanted, reads = sampling_metadata.max_num_logprobs, sampling_metadata.logprob_token_ids
        if wanted is None or wanted < 0:
            return super().forward(logits, sampling_metadata, *args, **kwargs)
        # With -1 vLLM returns the log-probabilities of the whole vocabulary.
        whole = replace(sampling_metadata, max_num_logprobs=-1, logprob_token_ids=None)
        output = super().forward(logits, whole, *args, **kwargs)
        logprobs = output.logprobs_tensors.logprobs
        sampled = output.sampled_token_ids[:, 0].long()
        top = self.gather_logprobs(logprobs, self.width(wanted, logprobs.shape[1]), sampled)
        tensors = _narrowed(top, wanted)
        if reads:
            labels = self.gather_specific_token_logprobs(logprobs, reads, sampled)
            tensors = _merged(tensors, labels, list(reads))
        output.logprobs_tensors = tensors
        return output

    def width(self, wanted: int | None, vocabulary: int) -> int | None:
        """How many of the most likely tokens to compute if the widest row wants `wanted`.

        `topk` breaks ties differently for different widths, so its width is the same in every step.
        """
        if not wanted or wanted < 0:
            return wanted
        return min(max(wanted, self._most), vocabulary)


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
        if not metadata.max_spec_len:
            return self.sampler(logits=logits, sampling_metadata=sampling_metadata)
        wanted, reads = sampling_metadata.max_num_logprobs, sampling_metadata.logprob_token_ids
        # The rejection sampler may write into the logits.
        first = logits[_first_rows(metadata)] if reads else None
        width = self.sampler.width(wanted, logits.shape[1])
        plain = replace(sampling_metadata, max_num_logprobs=width, logprob_token_ids=None)
        output = self.rejections(metadata, draft_probs, logits, plain)
        tensors = output.logprobs_tensors
        if tensors is not None and wanted is not None and wanted >= 0:
            tensors = _narrowed(tensors, wanted)
        if first is not None:
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
        return _merged(tensors, labels, [row * places for row in reads])


def _first_rows(metadata: SpecDecodeMetadata) -> torch.Tensor:
    """The row of logits of each request's first token of the step."""
    ends = metadata.cu_num_sampled_tokens
    return torch.cat([ends.new_zeros(1), ends[:-1]]).long()


def _narrowed(tensors: LogprobsTensors, wanted: int) -> LogprobsTensors:
    """The first 1 + `wanted` columns: the sampled token, and the most likely ones."""
    return tensors._replace(
        logprob_token_ids=tensors.logprob_token_ids[:, : 1 + wanted],
        logprobs=tensors.logprobs[:, : 1 + wanted],
    )


def _merged(top: LogprobsTensors, labels: LogprobsTensors, rows: list[int]) -> LogprobsTensors:
    """`top` with these rows from `labels`; the narrower of both is padded on the right.

    vLLM reads only as many columns of a row as its request asked for, never the padding.
    """
    width = max(top.logprobs.shape[1], labels.logprobs.shape[1])
    is_read = torch.zeros(len(top.logprobs), 1, dtype=torch.bool)
    is_read[rows] = True
    is_read = is_read.to(top.logprobs.device, non_blocking=True)

    def choose(read: torch.Tensor, other: torch.Tensor, padding: float) -> torch.Tensor:
        padded = [pad(each, (0, width - each.shape[1]), value=padding) for each in (read, other)]
        return torch.where(is_read, *padded)

    return top._replace(
        logprob_token_ids=choose(labels.logprob_token_ids, top.logprob_token_ids, 0),
        logprobs=choose(labels.logprobs, top.logprobs, float("-inf")),
    )
