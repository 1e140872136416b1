"""One measurement of one server, and the figures of several."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from loadtests.peers import Server
from tools.frontend.cases import Ask, Case
from tools.frontend.client import Load, Tally, run

_STEP = 1.15
_EVENTS_PER_TOKEN = 0.95


@dataclass(frozen=True, slots=True)
class Side:
    """A server on the mock engine, its processes and the file that sets the engine's rate."""

    name: str
    server: Server
    rate_file: Path
    """File that the mock engine reads its rate from."""

    key: str = ""

    @property
    def port(self) -> int:
        """Port of the server."""
        return int(self.server.url.rpartition(":")[2])

    def cpu_seconds(self) -> float:
        """CPU time of all threads of the API process, in the kernel's own resolution."""
        # The clock of a process by its number: clock_getcpuclockid(3).
        return time.clock_gettime((~self.server.process.pid << 3) | 2)


@dataclass(frozen=True, slots=True)
class Figures:
    """Figures of one server in one round of a case."""

    cpu_us_per_token: float
    cpu_us_per_request: float
    tokens_per_second: float
    events_per_token: float
    busy: float
    """CPU seconds of the API process per second."""

    ttft_p50_ms: float
    ttft_p99_ms: float
    itl_p50_ms: float
    itl_p99_ms: float


def measure(side: Side, case: Case, ask: Ask) -> Figures:
    """Apply the load of a case to the server; for a search, the figures at the highest rate."""
    if not case.search:
        return _measure(side, case, ask)
    return highest(lambda rate: _measure(side, replace(case, rate=rate), ask), case.rate or 1.0)


def highest(probe: Callable[[float], Figures], rate: float) -> Figures:
    """The figures at the highest rate that a server keeps up with, to within a step.

    vLLM's engine does not wait for a front end. A front end that falls behind gets several tokens
    of a stream at once and merges them into one event, so its tokens/s would not show it.
    """

    def again(rate: float) -> Figures:
        # A moment in which another program has the core says nothing about the server.
        found = probe(rate)
        return found if _keeps_up(found) else probe(rate)

    best = again(rate)
    step = _STEP if _keeps_up(best) else 1 / _STEP
    while True:
        rate *= step
        found = again(rate)
        if step < 1 and _keeps_up(found):
            return found
        if step > 1 and not _keeps_up(found):
            return best
        best = found


def _keeps_up(found: Figures) -> bool:
    return found.events_per_token >= _EVENTS_PER_TOKEN


def _measure(side: Side, case: Case, ask: Ask) -> Figures:
    side.rate_file.write_text("" if case.rate is None else str(case.rate))
    load = Load(
        side.port,
        ask.request(side.key),
        case.streams,
        case.requests,
        # Spread over the length of a request, so that the streams are not in step.
        spread=case.tokens / case.rate if case.rate else 0.0,
        streamed=case.streamed,
    )
    before = side.cpu_seconds()
    tally = run(load)
    return figures(case, tally, side.cpu_seconds() - before)


def figures(case: Case, tally: Tally, cpu_seconds: float) -> Figures:
    """The figures of a case, from what came back and the CPU time that the server took for it."""
    requests = case.streams * case.requests
    tokens = requests * case.tokens
    first, gaps = _quantiles(tally.first), _quantiles(tally.gaps)
    return Figures(
        cpu_us_per_token=cpu_seconds / tokens * 1e6,
        cpu_us_per_request=cpu_seconds / requests * 1e6,
        tokens_per_second=tokens / tally.seconds,
        events_per_token=tally.events / tokens,
        busy=cpu_seconds / tally.seconds,
        ttft_p50_ms=first[0],
        ttft_p99_ms=first[1],
        itl_p50_ms=gaps[0],
        itl_p99_ms=gaps[1],
    )


def _quantiles(seconds: Sequence[float]) -> tuple[float, float]:
    """Median and 99th percentile in ms; NaN for an empty list."""
    if not seconds:
        return float("nan"), float("nan")
    p50, p99 = np.quantile(np.asarray(seconds) * 1e3, (0.5, 0.99))
    return float(p50), float(p99)
