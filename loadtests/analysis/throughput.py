"""Throughput of a server: answers and tokens, counted when they arrive."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict

from loadtests.analysis.latency import ttft
from loadtests.load.stage import WARMUP
from loadtests.protocol.record import Record


@dataclass(frozen=True, slots=True)
class Window:
    """A time window from `start` to before `end`, in seconds of a run, in each of `rounds` runs.

    A run that ended earlier than the longest counts as a fraction of a round.
    """

    start: float
    end: float
    rounds: float = 1

    @property
    def seconds(self) -> float:
        return (self.end - self.start) * self.rounds

    def holds(self, at: float) -> bool:
        return self.start <= at < self.end


@dataclass(frozen=True, slots=True)
class Windows:
    """The time in which a run's measured requests were sent, and each stage's part of it."""

    whole: Window
    stages: dict[str, Window]


def windows(
    starts: Mapping[str, float], seconds: float, stages: Mapping[str, float], rounds: float = 1
) -> Windows:
    """The windows of stages, with the warm-up, that begin at `starts` with these lengths."""
    first = min(at for name, at in starts.items() if name != WARMUP)
    return Windows(
        whole=Window(first, first + seconds, rounds),
        stages={
            name: Window(starts[name], starts[name] + length, rounds)
            for name, length in stages.items()
        },
    )


class Throughput(BaseModel):
    """Answers and tokens per second within a window, whenever their requests were sent.

    Only complete answers count: each token at its arrival, the prompt at the first token, the
    answer and the texts of its batch at the end.
    """

    model_config = ConfigDict(extra="forbid")

    answers_per_s: float
    prompt_tokens_per_s: float
    completion_tokens_per_s: float
    items_per_s: float


def throughput(records: Sequence[Record], window: Window) -> Throughput:
    """The throughput of a stage, from `records` of all stages: their answers may end in it."""
    answers = prompt = items = 0
    completion = 0.0
    for record in records:
        if not record.ok or record.sent is None or record.e2e is None:
            continue
        completion += _tokens(record, record.sent, window)
        if window.holds(record.sent + (ttft(record) or 0.0)):
            prompt += record.prompt_tokens or 0
        if window.holds(record.sent + record.e2e):
            answers += 1
            items += record.items
    seconds = window.seconds
    return Throughput(
        answers_per_s=answers / seconds,
        prompt_tokens_per_s=prompt / seconds,
        completion_tokens_per_s=completion / seconds,
        items_per_s=items / seconds,
    )


def _tokens(record: Record, sent: float, window: Window) -> float:
    """Tokens of an answer within the window; evenly spread over chunks without counts."""
    instants = record.chunks or [record.e2e or 0.0]
    low, high = (bisect_left(instants, edge - sent) for edge in (window.start, window.end))
    if record.chunk_tokens is None or not any(record.chunk_tokens):
        return record.tokens * (high - low) / len(instants)
    return record.tokens * sum(record.chunk_tokens[low:high]) / sum(record.chunk_tokens)
