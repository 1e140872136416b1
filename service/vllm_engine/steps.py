"""Steps of vLLM's engine: their tokens are counted, and plain streams handed on, in one pass."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.output_processor import OutputProcessor, OutputProcessorOutput, RequestState
from vllm.v1.metrics.stats import IterationStats

from service.engine.protocol import TextSink
from service.gate.gate import Gate
from service.gate.meter import Meter, Progress
from service.gate.ticket import Ticket
from service.vllm_engine.generation import engine_wait
from service.vllm_engine.token_texts import TextStream

_LATE_SECONDS = 0.05
"""Age of a step, when it is handed on, from which the loop is said to lag."""
_GATHER_SECONDS = 0.02
"""Time for which texts wait for those of the next steps while the loop lags."""


_NOTHING = OutputProcessorOutput(request_outputs=[], reqs_to_abort=[])


class OneStep(Protocol):
    """A request that ends with its first step, and of which vLLM's processor does not know."""

    @property
    def request_id(self) -> str: ...

    def take(self, output: EngineCoreOutput, timestamp: float, stats: IterationStats) -> None:
        """Take the step's output, and count it in the step's statistics."""

    def fail(self, error: Exception) -> None:
        """End with an error."""


@dataclass(slots=True)
class _Stream:
    state: RequestState
    meter: Meter
    sink: TextSink
    fail: Callable[[Exception], None]


@dataclass(slots=True)
class _Whole:
    state: RequestState
    meter: Meter
    fail: Callable[[Exception], None]
    steady: bool


@dataclass(slots=True)
class _Step:
    timestamp: float
    stats: IterationStats | None
    weight_version: str | None
    now: float = field(default_factory=time.monotonic)
    made: list[tuple[Ticket, int]] = field(default_factory=list)
    rest: list[EngineCoreOutput] = field(default_factory=list)
    whole: list[tuple[_Whole, int]] = field(default_factory=list)

    def count(self, meter: Meter, tokens: int) -> None:
        meter.count(tokens, self.now)
        self.made.append((meter.ticket, tokens))


class Steps:
    """Stands before vLLM's output processor, counts each step's tokens and hands on plain texts.

    A stream that is followed here gets the text of outputs that hold tokens alone. The text comes
    from the request's own detokenizer, and vLLM's counts are kept, so the processor finds the
    request as if it had seen all outputs. Any other output (a last one, one with an event) goes to
    the processor. The tokens of an answer that comes whole are counted here, since the processor
    says nothing until its end. The gate is charged once for a step.

    All texts of a step are written one directly after the other: a client on this machine that
    falls asleep between two writes costs more time than both writes. While the loop lags, the texts
    of several steps become one event.
    """

    def __init__(self, processor: OutputProcessor, gate: Gate) -> None:
        self._states: dict[str, RequestState] = processor.request_states
        self._parents: dict[str, Any] = processor.parent_requests
        self._process = processor.process_outputs
        self._gate = gate
        self._streams: dict[str, _Stream] = {}
        self._wholes: dict[str, _Whole] = {}
        self._ending: dict[str, OneStep] = {}
        self._unreleased: dict[str, _Stream] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._tell_of_failure = processor.propagate_error
        processor.process_outputs = self._take
        processor.propagate_error = self._fail

    def follow(
        self, request_id: str, meter: Meter, sink: TextSink, fail: Callable[[Exception], None]
    ) -> None:
        """Hand the stream's text to `sink` from its next step on, and its errors to `fail`."""
        if request_id not in self._streams and (state := self._states.get(request_id)) is not None:
            self._streams[request_id] = _Stream(state, meter, sink, fail)

    def count(
        self, request_id: str, meter: Meter, fail: Callable[[Exception], None], *, steady: bool
    ) -> list[str]:
        """Count the tokens of a whole answer, but not those of a sequence's last output.

        Returns the ids of its sequences, for `forget`. `steady` as `Generation.steady`.
        """
        parent = self._parents.get(request_id)
        ids = [request_id] if parent is None else list(parent.child_requests)
        for each in ids:
            if (state := self._states.get(each)) is not None:
                self._wholes[each] = _Whole(state, meter, fail, steady)
        return ids

    def end_with_next(self, request: OneStep) -> None:
        """Hand the next output of the engine's request to this one, which it ends."""
        self._ending[request.request_id] = request

    def forget(self, *request_ids: str) -> None:
        """Hand on and count no more outputs of these requests."""
        for request_id in request_ids:
            self._ending.pop(request_id, None)
            self._streams.pop(request_id, None)
            self._wholes.pop(request_id, None)
            self._unreleased.pop(request_id, None)

    def _take(
        self,
        outputs: list[EngineCoreOutput],
        timestamp: float | None = None,
        stats: IterationStats | None = None,
        weight_version: str | None = None,
    ) -> OutputProcessorOutput:
        if timestamp is None or not (self._streams or self._wholes or self._ending):
            return self._process(outputs, timestamp, stats, weight_version)
        step = _Step(timestamp, stats, weight_version)
        for output in outputs:
            self._sort(step, output)
        processed = _NOTHING
        if step.rest:
            processed = self._process(step.rest, timestamp, stats, weight_version)
        for whole, tokens in step.whole:
            try:
                _count_whole(step, whole, tokens)
            except Exception as error:
                whole.fail(error)
        self._gate.charge_step(step.made)
        if step.now - timestamp < _LATE_SECONDS:
            self._release()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_GATHER_SECONDS, self._release)
        return processed

    def _fail(self, error: Exception) -> None:
        """End all requests with an error."""
        ending, self._ending = self._ending, {}
        for request in ending.values():
            request.fail(error)
        self._tell_of_failure(error)

    def _sort(self, step: _Step, output: EngineCoreOutput) -> None:
        if (request := self._ending.pop(output.request_id, None)) is not None:
            _end(step, request, output)
            return
        stream = self._streams.get(output.request_id)
        if stream is not None and _only_tokens(output):
            self._hand_on(step, stream, output)
            return
        whole = self._wholes.get(output.request_id)
        if whole is not None and whole.steady and whole.meter.begun and _only_tokens(output):
            _take_in(step, whole, output)
            return
        step.rest.append(output)
        if whole is not None and output.finish_reason is None:
            step.whole.append((whole, len(output.new_token_ids)))

    def _hand_on(self, step: _Step, stream: _Stream, output: EngineCoreOutput) -> None:
        tokens = len(output.new_token_ids)
        _count(step, stream.state.stats, tokens)
        step.count(stream.meter, tokens)
        try:
            text = _text(stream.state, output.new_token_ids, step.weight_version)
            stream.sink.add(text, tokens)
        except Exception as error:
            stream.fail(error)
        else:
            self._unreleased[output.request_id] = stream

    def _release(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        unreleased, self._unreleased = self._unreleased, {}
        for stream in unreleased.values():
            try:
                stream.sink.release()
            except Exception as error:
                stream.fail(error)


def _end(step: _Step, request: OneStep, output: EngineCoreOutput) -> None:
    try:
        request.take(output, step.timestamp, step.stats)
    except Exception as error:
        request.fail(error)


def _only_tokens(output: EngineCoreOutput) -> bool:
    return (
        output.finish_reason is None
        and output.events is None
        and output.prefill_stats is None
        and output.new_logprobs is None
        and output.new_prompt_logprobs_tensors is None
        and output.new_sampling_mask is None
        and output.routed_experts is None
        and not output.num_nans_in_logits
    )


def _text(state: RequestState, token_ids: list[int], weight_version: str | None) -> str:
    """The text that tokens add to a stream without stop strings.

    vLLM's detokenizer puts each token's text at the end of the whole answer's, which it copies, and
    cuts it off again. It finds nothing missing: of a stream it hands on what came after its offset.
    """
    if weight_version is not None:
        state.track_weight_version(weight_version)
    detokenizer = state.detokenizer
    stream = getattr(detokenizer, "stream", None)
    if isinstance(stream, TextStream) and detokenizer.spaces_between_special_tokens:
        detokenizer.token_ids += token_ids
        return stream.text(detokenizer.tokenizer, token_ids)
    detokenizer.update(token_ids, False)
    text: str = detokenizer.get_next_output_text(False, True)
    return text


def _take_in(step: _Step, whole: _Whole, output: EngineCoreOutput) -> None:
    state, tokens = whole.state, len(output.new_token_ids)
    _count(step, state.stats, tokens)
    step.count(whole.meter, tokens)
    try:
        if step.weight_version is not None:
            state.track_weight_version(step.weight_version)
        state.detokenizer.update(output.new_token_ids, False)
    except Exception as error:
        whole.fail(error)


def _count(step: _Step, request: Any, tokens: int) -> None:
    """Count as `IterationStats.update_from_output`, for an output of tokens after the first."""
    if step.stats is not None:
        step.stats.num_generation_tokens += tokens
        request.num_generation_tokens += tokens
        step.stats.inter_token_latencies_iter.append(step.timestamp - request.last_token_ts)
        request.last_token_ts = step.timestamp


def _count_whole(step: _Step, whole: _Whole, tokens: int) -> None:
    if whole.meter.begun:
        step.count(whole.meter, tokens)
        return
    whole.meter.add(
        Progress(
            prompt_tokens=whole.state.prompt_len,
            cached_tokens=whole.state.num_cached_tokens,
            new_tokens=tokens,
            engine_wait=engine_wait(whole.state.stats),
        )
    )
