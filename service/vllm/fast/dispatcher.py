"""Dispatches the outputs of vLLM's engine directly to requests whose state the service keeps."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Protocol

from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.output_processor import OutputProcessor, OutputProcessorOutput
from vllm.v1.metrics.stats import IterationStats, RequestStateStats

USES = (
    "replaces vllm.v1.engine.output_processor:OutputProcessor.process_outputs",
    "replaces vllm.v1.engine.output_processor:OutputProcessor.propagate_error",
    "reads vllm.v1.metrics.stats:IterationStats.update_from_output",
)

_LATE_SECONDS = 0.05
"""Age of a step at its dispatch from which the event loop counts as lagging."""
_GATHER_SECONDS = 0.02
"""Time for which texts are held to be merged with the next steps' while the loop lags."""
_NOTHING = OutputProcessorOutput(request_outputs=[], reqs_to_abort=[])


@dataclass(slots=True)
class Step:
    """A step whose outputs are dispatched: the engine's time of it, and vLLM's statistics of it.

    `stopped` are requests that ended at a stop string; the engine would go on with them.
    """

    timestamp: float
    stats: IterationStats
    stopped: list[str] = field(default_factory=list)

    def tally(self, request: RequestStateStats, tokens: int) -> None:
        """Count an output of tokens alone, not a request's first, in vLLM's statistics."""
        self.stats.num_generation_tokens += tokens
        self.stats.inter_token_latencies_iter.append(self.timestamp - request.last_token_ts)
        request.num_generation_tokens += tokens
        request.last_token_ts = self.timestamp


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


class Dispatched(Protocol):
    """A request whose state the service keeps, unknown to vLLM's output processor."""

    request_id: str
    """The request's id in the engine."""

    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        """Take an output; true if text of it is buffered until `release`."""

    def release(self) -> None:
        """Send the buffered text."""

    def fail(self, error: Exception) -> None:
        """End with an error."""


class OutputDispatcher:
    """Stands before vLLM's output processor and dispatches the outputs of own requests.

    All texts of a step are written one directly after the other: a client on this machine that
    falls asleep between two writes costs more time than both writes. While the loop lags, the texts
    of several steps become one event.
    """

    def __init__(self, processor: OutputProcessor) -> None:
        self._process = processor.process_outputs
        self._tell_of_failure = processor.propagate_error
        self._own: dict[str, Dispatched] = {}
        self._unreleased: dict[str, Dispatched] = {}
        self._timer: asyncio.TimerHandle | None = None
        processor.process_outputs = self._take
        processor.propagate_error = self._fail

    def hand_to(self, request: Dispatched) -> None:
        """Dispatch all outputs with this request's id to it, until `forget`."""
        self._own[request.request_id] = request

    def forget(self, request_id: str) -> None:
        """Dispatch no more outputs to this request."""
        self._own.pop(request_id, None)
        self._unreleased.pop(request_id, None)

    def _take(
        self,
        outputs: list[EngineCoreOutput],
        timestamp: float,
        stats: IterationStats,
    ) -> OutputProcessorOutput:
        if not self._own:
            return self._process(outputs, timestamp, stats)
        step = Step(timestamp, stats)
        rest: list[EngineCoreOutput] = []
        for output in outputs:
            if (request := self._own.get(output.request_id)) is None:
                rest.append(output)
                continue
            try:
                if request.take(output, step):
                    self._unreleased[output.request_id] = request
            except Exception as error:
                request.fail(error)
        processed = self._process(rest, timestamp, stats) if rest else _NOTHING
        if step.stopped:
            stopped = [*processed.reqs_to_abort, *step.stopped]
            processed = OutputProcessorOutput(request_outputs=[], reqs_to_abort=stopped)
        if time.monotonic() - timestamp < _LATE_SECONDS:
            self._release()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_SECONDS, self._release)
        return processed

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unreleased, self._unreleased = self._unreleased, {}
        for request in unreleased.values():
            try:
                request.release()
            except Exception as error:
                request.fail(error)

    def _fail(self, error: Exception) -> None:
        for request in list(self._own.values()):
            request.fail(error)
        self._tell_of_failure(error)
