"""Steps of vLLM's engine, whose outputs are handed at once to requests of the service's own."""

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.output_processor import OutputProcessor, OutputProcessorOutput
from vllm.v1.metrics.stats import IterationStats, RequestStateStats

USES = (
    "replaces vllm.v1.engine.output_processor:OutputProcessor.process_outputs",
    "replaces vllm.v1.engine.output_processor:OutputProcessor.propagate_error",
    "reads vllm.v1.metrics.stats:IterationStats.update_from_output",
)


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


_LATE_SECONDS = 0.05
"""Age of a step, when it is handed on, from which the loop is said to lag."""
_GATHER_SECONDS = 0.02
"""Time for which texts wait for those of the next steps while the loop lags."""


_NOTHING = OutputProcessorOutput(request_outputs=[], reqs_to_abort=[])


class Dispatched(Protocol):
    """A request whose state the service keeps, and of which vLLM's processor does not know."""

    request_id: str
    """The request's name in the engine."""

    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        """Take an output; true if it holds a text that `release` hands on."""

    def release(self) -> None:
        """Hand on the texts that were kept."""

    def fail(self, error: Exception) -> None:
        """End with an error."""


class OutputDispatcher:
    """Stands before vLLM's output processor and hands on the outputs of own requests.

    Requests whose state the service keeps get their outputs here; all others go to the processor.

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
        """Hand all outputs of this request to it, until it is forgotten."""
        self._own[request.request_id] = request

    def forget(self, *request_ids: str) -> None:
        """Hand on and count no more outputs of these requests."""
        for request_id in request_ids:
            self._own.pop(request_id, None)
            self._unreleased.pop(request_id, None)

    def _take(
        self,
        outputs: list[EngineCoreOutput],
        timestamp: float | None = None,
        stats: IterationStats | None = None,
        **told: Any,
    ) -> OutputProcessorOutput:
        if timestamp is None or not self._own:
            return self._process(outputs, timestamp, stats, **told)
        step = Step(timestamp, stats or IterationStats())
        rest: list[EngineCoreOutput] = []
        for output in outputs:
            if (request := self._own.get(output.request_id)) is None:
                rest.append(output)
                continue
            try:
                if (refused := refusal(output)) is not None:
                    request.fail(refused)
                elif request.take(output, step):
                    self._unreleased[output.request_id] = request
            except Exception as error:
                request.fail(error)
        processed = _NOTHING
        if rest:
            processed = self._process(rest, timestamp, step.stats, **told)
        if step.stopped:
            stopped = [*processed.reqs_to_abort, *step.stopped]
            processed = OutputProcessorOutput(request_outputs=[], reqs_to_abort=stopped)
        if time.monotonic() - timestamp < _LATE_SECONDS:
            self._release()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_GATHER_SECONDS, self._release)
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
        """End all requests with an error."""
        for request in list(self._own.values()):
            request.fail(error)
        self._tell_of_failure(error)
