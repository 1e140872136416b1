"""Steps of vLLM's engine: their tokens are counted, and own requests get their outputs at once."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.output_processor import OutputProcessor, OutputProcessorOutput
from vllm.v1.metrics.stats import IterationStats

from service.engine.contract import Meter, Progress
from service.gate.gate import Gate
from service.vllm.fast.step import Step, only_tokens, refusal
from service.vllm.progress import engine_wait

USES = (
    "reads vllm.v1.engine.output_processor:OutputProcessor.parent_requests",
    "replaces vllm.v1.engine.output_processor:OutputProcessor.process_outputs",
    "replaces vllm.v1.engine.output_processor:OutputProcessor.propagate_error",
    "reads vllm.v1.engine.output_processor:OutputProcessor.request_states",
    "reads vllm.v1.engine.output_processor:RequestState.track_weight_version",
)
"""What of vLLM this module stands on (docs/vllm.md)."""

_LATE_SECONDS = 0.05
"""Age of a step, when it is handed on, from which the loop is said to lag."""
_GATHER_SECONDS = 0.02
"""Time for which texts wait for those of the next steps while the loop lags."""


_NOTHING = OutputProcessorOutput(request_outputs=[], reqs_to_abort=[])


class Dispatched(Protocol):
    """A request whose state the service keeps, and of which vLLM's processor does not know."""

    @property
    def request_id(self) -> str:
        """The request's name in the engine."""

    def take(self, output: EngineCoreOutput, step: Step) -> bool:
        """Take an output; true if it holds a text that `release` hands on."""

    def release(self) -> None:
        """Hand on the texts that were kept."""

    def fail(self, error: Exception) -> None:
        """End with an error."""


@dataclass(slots=True)
class _Whole:
    state: Any
    meter: Meter
    fail: Callable[[Exception], None]
    steady: bool


class OutputDispatcher:
    """Stands before vLLM's output processor, counts each step's tokens and hands on own outputs.

    Requests whose state the service keeps get their outputs here; all others go to the processor.
    The tokens of an answer that comes whole are counted here too, since the processor says nothing
    until its end. The gate is charged once for a step.

    All texts of a step are written one directly after the other: a client on this machine that
    falls asleep between two writes costs more time than both writes. While the loop lags, the texts
    of several steps become one event.
    """

    def __init__(self, processor: OutputProcessor, gate: Gate) -> None:
        self._states: dict[str, Any] = processor.request_states
        self._parents: dict[str, Any] = processor.parent_requests
        self._process = processor.process_outputs
        self._tell_of_failure = processor.propagate_error
        self._gate = gate
        self._own: dict[str, Dispatched] = {}
        self._wholes: dict[str, _Whole] = {}
        self._unreleased: dict[str, Dispatched] = {}
        self._timer: asyncio.TimerHandle | None = None
        processor.process_outputs = self._take
        processor.propagate_error = self._fail

    def hand_to(self, request: Dispatched) -> None:
        """Hand all outputs of this request to it, until it is forgotten."""
        self._own[request.request_id] = request

    def count(
        self, request_id: str, meter: Meter, fail: Callable[[Exception], None], *, steady: bool
    ) -> list[str]:
        """Count the tokens of a whole answer, but not those of a sequence's last output.

        Returns the ids of its sequences, for `forget`. `steady` if outputs of tokens alone may be
        taken in here: no stop string can cut their text.
        """
        parent = self._parents.get(request_id)
        ids = [request_id] if parent is None else list(parent.child_requests)
        for each in ids:
            if (state := self._states.get(each)) is not None:
                self._wholes[each] = _Whole(state, meter, fail, steady)
        return ids

    def forget(self, *request_ids: str) -> None:
        """Hand on and count no more outputs of these requests."""
        for request_id in request_ids:
            self._own.pop(request_id, None)
            self._wholes.pop(request_id, None)
            self._unreleased.pop(request_id, None)

    def _take(
        self,
        outputs: list[EngineCoreOutput],
        timestamp: float | None = None,
        stats: IterationStats | None = None,
        **told: Any,
    ) -> OutputProcessorOutput:
        if timestamp is None or not (self._own or self._wholes):
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
        processed = self._take_rest(rest, step, told) if rest else _NOTHING
        if step.stopped:
            stopped = [*processed.reqs_to_abort, *step.stopped]
            processed = OutputProcessorOutput(request_outputs=[], reqs_to_abort=stopped)
        self._gate.charge_step(step.made)
        if step.now - timestamp < _LATE_SECONDS:
            self._release()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_GATHER_SECONDS, self._release)
        return processed

    def _take_rest(
        self, outputs: list[EngineCoreOutput], step: Step, told: dict[str, Any]
    ) -> OutputProcessorOutput:
        """Hand outputs to vLLM's processor, but for the plain ones of whole answers.

        `told` is what vLLM's client tells its processor besides, which differs between versions.
        """
        rest: list[EngineCoreOutput] = []
        counted: list[tuple[_Whole, int]] = []
        for output in outputs:
            whole = self._wholes.get(output.request_id)
            if whole is not None and whole.steady and whole.meter.begun and only_tokens(output):
                _take_in(step, whole, output, told.get("weight_version"))
                continue
            rest.append(output)
            if whole is not None and output.finish_reason is None:
                counted.append((whole, len(output.new_token_ids)))
        processed = _NOTHING
        if rest:
            processed = self._process(rest, step.timestamp, step.stats, **told)
        for whole, tokens in counted:
            try:
                count_part(step, whole.state, whole.meter, tokens)
            except Exception as error:
                whole.fail(error)
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


def _take_in(
    step: Step, whole: _Whole, output: EngineCoreOutput, weight_version: str | None
) -> None:
    """Add tokens to a sequence, and count them."""
    state, tokens = whole.state, len(output.new_token_ids)
    step.tally(state.stats, tokens)
    step.count(whole.meter, tokens)
    try:
        if weight_version is not None:
            state.track_weight_version(weight_version)
        state.detokenizer.update(output.new_token_ids, False)
    except Exception as error:
        whole.fail(error)


def count_part(step: Step, state: Any, meter: Meter, tokens: int) -> None:
    """Count tokens of an answer that comes whole; `state` is vLLM's or a `RequestState` of ours."""
    if meter.begun:
        step.count(meter, tokens)
        return
    wait = engine_wait(state.stats)
    meter.add(Progress(state.prompt_len, state.num_cached_tokens, tokens, wait))
