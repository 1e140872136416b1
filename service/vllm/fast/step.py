"""One step of vLLM's engine."""

from dataclasses import dataclass, field

from vllm.v1.engine import EngineCoreOutput
from vllm.v1.metrics.stats import IterationStats, RequestStateStats

USES = ("reads vllm.v1.metrics.stats:IterationStats.update_from_output",)
"""What of vLLM this module stands on (docs/vllm.md)."""


@dataclass(slots=True)
class Step:
    """A step whose outputs are handed on: the engine's time of it, and vLLM's statistics of it.

    `stopped` are the requests that ended with a stop string, which the engine would go on with.
    """

    timestamp: float
    stats: IterationStats
    stopped: list[str] = field(default_factory=list)

    def tally(self, request: RequestStateStats, tokens: int) -> None:
        """Count an output of tokens alone, which is not the first, in vLLM's statistics."""
        self.stats.num_generation_tokens += tokens
        self.stats.inter_token_latencies_iter.append(self.timestamp - request.last_token_ts)
        request.num_generation_tokens += tokens
        request.last_token_ts = self.timestamp


def refusal(output: EngineCoreOutput) -> Exception | None:
    """The error with which the engine refused a request, where this vLLM's outputs tell one."""
    error = getattr(output, "error", None)
    refused: Exception | None = error and error.to_exception()
    return refused


def only_tokens(output: EngineCoreOutput) -> bool:
    """True for an output that holds tokens alone, and is not a request's last."""
    return (
        output.finish_reason is None
        and output.events is None
        and output.kv_transfer_params is None
        and output.prefill_stats is None
        and output.new_logprobs is None
        and output.new_prompt_logprobs_tensors is None
        and output.new_sampling_mask is None
        and output.routed_experts is None
        and not output.num_nans_in_logits
    )
