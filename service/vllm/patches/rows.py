"""The rows of a batch of vLLM's change each other's answers, by its sampler, adapters and seeds.

- If a batch contains a label read, vLLM 0.32 gives every row the labels' log-probabilities only,
  and the choice among equally likely tokens depends on the widest row. Beside drafted tokens its
  rejection sampler gives label reads no log-probabilities, and ends the engine if another row of
  the step wants any. So the V1 sampler is replaced: each row gets what it would get alone. - The
  log-probabilities of prompts are computed request by request, but the output layer uses the
  adapters of the rows that the step samples. So a prompt gets another request's adapter or, if the
  numbers of rows differ, an error that ends the engine. This concerns models whose output layer is
  not a copy of the embedding, with any adapter.
- vLLM samples a token for every row of a step and drops those of unfinished prompts. Then it
  rewinds their generators by an offset, which torch's CPU generators do not have, so the engine
  ends.

The ADR docs/decisions/0017-batch-invariance.md says when to remove this.
"""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch.nn.functional import pad
from vllm.lora.layers.logits_processor import LogitsProcessorWithLoRA
from vllm.v1.outputs import LogprobsTensors, SamplerOutput
from vllm.v1.sample.metadata import SamplingMetadata
from vllm.v1.sample.sampler import Sampler
from vllm.v1.spec_decode.metadata import SpecDecodeMetadata

from service.settings import section as platform
from service.vllm.patches.adapter_operators import GroupedPunicaWrapper

USES = (
    "reads vllm.lora.model_manager:LoRAModelManager.punica_wrapper_mapping",
    "reads vllm.lora.worker_manager:WorkerLoRAManager._adapter_manager",
    "extends vllm.v1.sample.sampler:Sampler.__init__, forward",
    "reads vllm.v1.sample.sampler:Sampler.gather_logprobs, gather_specific_token_logprobs",
    "reads vllm.v1.spec_decode.metadata:SpecDecodeMetadata.cu_num_sampled_tokens, max_spec_len",
    "replaces vllm.v1.worker.gpu_model_runner:GPUModelRunner._get_prompt_logprobs_dict, "
    "num_prompt_logprobs, rejection_sampler, sample_tokens, sampler",
    "reads vllm.v1.worker.gpu_model_runner:GPUModelRunner.discard_request_mask, query_start_loc",
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
    """True if the output layer can be changed by adapters.

    For prompt log-probabilities vLLM 0.32 uses the adapters of the rows that the step samples
    (`PunicaWrapperGPU.add_lora_logits`). If adapters can change the output layer, the adapters of
    other requests are then applied to them. If a prompt's last part has fewer rows than are
    sampled, the kernels also read and write out of bounds.
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
    """Uses `rejections` for steps with draft tokens, and `sampler` for those without."""

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
