"""Steps of vLLM's engine, which hand the tokens of plain streams on in one pass."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from vllm.v1.engine import EngineCoreOutput
from vllm.v1.engine.output_processor import OutputProcessor, OutputProcessorOutput, RequestState
from vllm.v1.metrics.stats import IterationStats

from service.engine.protocol import TextSink
from service.gate.gate import Gate
from service.gate.meter import Meter
from service.gate.ticket import Ticket

_LATE_SECONDS = 0.05
"""Age of a step, when it is handed on, from which the loop is said to lag."""
_GATHER_SECONDS = 0.02
"""Time for which texts wait for those of the next steps while the loop lags."""


@dataclass(slots=True)
class _Stream:
    state: RequestState
    meter: Meter
    sink: TextSink
    fail: Callable[[Exception], None]


class Steps:
    """Stands before vLLM's output processor, and takes from each step what streams follow here.

    Only an output that is nothing but tokens is taken: its text comes from the request's own
    detokenizer, vLLM's counts are kept, and the gate is charged once for the whole step. Any other
    output (a last one, one with an event) is the processor's, which finds the request as if it had
    seen all before. All texts of a step are written one directly after the other: a reader on this
    machine that falls asleep between two costs more than both. While the loop lags, the texts of
    several steps become one event.
    """

    def __init__(self, processor: OutputProcessor, gate: Gate) -> None:
        self._states: dict[str, RequestState] = processor.request_states
        self._process = processor.process_outputs
        self._gate = gate
        self._streams: dict[str, _Stream] = {}
        self._unreleased: dict[str, _Stream] = {}
        self._timer: asyncio.TimerHandle | None = None
        processor.process_outputs = self._take

    def follow(
        self, request_id: str, meter: Meter, sink: TextSink, fail: Callable[[Exception], None]
    ) -> None:
        """Hand the stream's text to `sink` from its next step on, and its errors to `fail`."""
        if request_id not in self._streams and (state := self._states.get(request_id)) is not None:
            self._streams[request_id] = _Stream(state, meter, sink, fail)

    def forget(self, request_id: str) -> None:
        """Hand it no more."""
        self._streams.pop(request_id, None)
        self._unreleased.pop(request_id, None)

    def _take(
        self,
        outputs: list[EngineCoreOutput],
        timestamp: float | None = None,
        stats: IterationStats | None = None,
        weight_version: str | None = None,
    ) -> OutputProcessorOutput:
        rest = outputs
        if self._streams and timestamp is not None:
            rest = self._hand_on(outputs, timestamp, stats, weight_version)
        return self._process(rest, timestamp, stats, weight_version)

    def _hand_on(
        self,
        outputs: list[EngineCoreOutput],
        timestamp: float,
        stats: IterationStats | None,
        weight_version: str | None,
    ) -> list[EngineCoreOutput]:
        """Hand on what the streams here get; returns the rest."""
        now = time.monotonic()
        made: list[tuple[Ticket, int]] = []
        rest: list[EngineCoreOutput] = []
        for output in outputs:
            stream = self._streams.get(output.request_id)
            if stream is None or not _only_tokens(output):
                rest.append(output)
                continue
            tokens = len(output.new_token_ids)
            if stats is not None:
                _count(stats, stream.state.stats, tokens, timestamp)
            made.append((stream.meter.ticket, tokens))
            stream.meter.count(tokens, now)
            try:
                text = _text(stream.state, output.new_token_ids, weight_version)
                stream.sink.add(text, tokens)
            except Exception as error:
                stream.fail(error)
                continue
            self._unreleased[output.request_id] = stream
        self._gate.charge_step(made)
        if now - timestamp < _LATE_SECONDS:
            self._release()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_GATHER_SECONDS, self._release)
        return rest

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


def _only_tokens(output: EngineCoreOutput) -> bool:
    return (
        output.finish_reason is None
        and output.events is None
        and output.prefill_stats is None
        and output.new_logprobs is None
        and output.new_sampling_mask is None
        and output.routed_experts is None
        and not output.num_nans_in_logits
    )


def _text(state: RequestState, token_ids: list[int], weight_version: str | None) -> str:
    if weight_version is not None:
        state.track_weight_version(weight_version)
    state.detokenizer.update(token_ids, False)
    text: str = state.detokenizer.get_next_output_text(False, True)
    return text


def _count(stats: IterationStats, request: Any, tokens: int, timestamp: float) -> None:
    """Count as `IterationStats.update_from_output`, for an output of tokens after the first."""
    stats.num_generation_tokens += tokens
    request.num_generation_tokens += tokens
    stats.inter_token_latencies_iter.append(timestamp - request.last_token_ts)
    request.last_token_ts = timestamp
