"""vLLM's V1 sampler, with each row's log-probabilities as if the row were alone.

vLLM 0.32 answers a batch that holds a label read with the labels' log-probabilities only, and the
choice among equally likely tokens depends on the widest row. The ADR
docs/decisions/0017-answers-that-no-neighbour-changes.md says when to remove this module.
"""

from dataclasses import replace
from typing import Any

import torch
from torch.nn.functional import pad
from vllm.v1.outputs import LogprobsTensors, SamplerOutput
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler

from service.vllm.patches import Patch

PATCH = Patch(
    "a label read changes what other rows of its batch are told",
)

USES = (
    "extends vllm.v1.sample.sampler:Sampler.__init__",
    "extends vllm.v1.sample.sampler:Sampler.forward",
    "reads vllm.v1.sample.sampler:Sampler.gather_logprobs",
    "reads vllm.v1.sample.sampler:Sampler.gather_specific_token_logprobs",
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
        """Sample one token per row; arguments and result are those of vLLM's sampler."""
        wanted, reads = sampling_metadata.max_num_logprobs, sampling_metadata.logprob_token_ids
        if wanted is None or wanted < 0:
            return super().forward(logits, sampling_metadata, *args, **kwargs)
        # With -1 vLLM returns the log-probabilities of the whole vocabulary.
        whole = replace(sampling_metadata, max_num_logprobs=-1, logprob_token_ids=None)
        output = super().forward(logits, whole, *args, **kwargs)
        logprobs = output.logprobs_tensors.logprobs
        sampled = output.sampled_token_ids[:, 0].long()
        tensors = self._most_likely(logprobs, wanted, sampled)
        if reads:
            labels = self.gather_specific_token_logprobs(logprobs, reads, sampled)
            tensors = merged(tensors, labels, list(reads))
        output.logprobs_tensors = tensors
        return output

    def width(self, wanted: int | None, vocabulary: int) -> int | None:
        """How many of the most likely tokens to compute if the widest row wants `wanted`.

        `topk` breaks ties differently for different widths, so its width is the same in every step.
        """
        if not wanted or wanted < 0:
            return wanted
        return min(max(wanted, self._most), vocabulary)

    def _most_likely(
        self, logprobs: torch.Tensor, wanted: int, sampled: torch.Tensor
    ) -> LogprobsTensors:
        """The sampled token and the `wanted` most likely ones of each row, [batch, 1 + wanted]."""
        top = self.gather_logprobs(logprobs, self.width(wanted, logprobs.shape[1]), sampled)
        return narrowed(top, wanted)


def narrowed(tensors: LogprobsTensors, wanted: int) -> LogprobsTensors:
    """The first 1 + `wanted` columns: the sampled token, and the most likely ones."""
    return tensors._replace(
        logprob_token_ids=tensors.logprob_token_ids[:, : 1 + wanted],
        logprobs=tensors.logprobs[:, : 1 + wanted],
    )


def merged(top: LogprobsTensors, labels: LogprobsTensors, rows: list[int]) -> LogprobsTensors:
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
