"""Cost of the gate for a request and a token, metrics included: `python -m tools.gate_cost`.

Measures jobs of an engine that takes no time, with and without the gate, in turns. Tokens come as
outputs, each charged by itself, or as texts, which are charged together once a turn of the loop.
"""

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import cast

from prometheus_client import CollectorRegistry

from service.admission.admitted import Admitted
from service.admission.gate import Gate
from service.context import internal_request
from service.engine.contract import Engine, Job, Output, Part, Sink, TextSink
from service.engine.protocol import Sampling
from service.settings.gate import GateSettings
from service.telemetry.metrics import Metrics
from tools.command_line import command_line

REQUESTS = 64
ROUNDS = 25
TOKENS = 64
PROMPT = range(32)


class _Instant:
    """Answers at once with a token a step, and lets all other answers take their step between.

    Implements `run` of `engine.contract.Engine`.
    """

    async def run(self, job: Job, sink: Sink) -> None:
        """Make as many tokens as the job allows."""
        texts: TextSink | None = None
        for _ in range(job.sampling.max_tokens or 1):
            if texts is None:
                texts = sink.take(Output([Part(0, "a", [1])], len(PROMPT), engine_wait=0.0))
            else:
                texts.add("a", 1)
            await asyncio.sleep(0)


class _Nowhere:
    """A sink that keeps nothing."""

    restart = None

    def __init__(self, *, texts: bool) -> None:
        self._texts = self if texts else None

    def take(self, output: Output) -> TextSink | None:
        """Take an output; later ones as texts alone, or not."""
        return self._texts

    def add(self, text: str, tokens: int) -> None:
        """Take text."""

    def release(self) -> None:
        """Hand nothing on."""


async def _microseconds(
    run: Callable[[Job, Sink], Awaitable[None]], tokens: int, *, texts: bool
) -> float:
    """Microseconds of one request, of many that run at once."""

    async def request() -> None:
        async with internal_request("cost", 60.0):
            await run(Job(PROMPT, Sampling(tokens)), _Nowhere(texts=texts))

    started = time.perf_counter()
    await asyncio.gather(*(request() for _ in range(REQUESTS)))
    return (time.perf_counter() - started) / REQUESTS * 1e6


async def _added(tokens: int, *, texts: bool = False) -> float:
    """Microseconds that the gate adds to a request of so many tokens, a median of rounds."""
    metrics, engine = Metrics(CollectorRegistry()), _Instant()
    gate = Gate(GateSettings(), metrics.of_engine("fake"), capacity=REQUESTS)
    admitted = Admitted(cast(Engine, engine), gate, metrics)

    async def with_gate(job: Job, sink: Sink) -> None:
        await admitted.run(job, sink)

    measured = [
        await _microseconds(with_gate, tokens, texts=texts)
        - await _microseconds(engine.run, tokens, texts=texts)
        for _ in range(ROUNDS)
    ]
    return statistics.median(measured)


async def main() -> None:
    """Measure and print."""
    one = await _added(1)
    alone, together = [
        (await _added(TOKENS, texts=texts) - one) / (TOKENS - 1) for texts in (False, True)
    ]
    print(
        f"the gate adds {one:.0f} us to a request, {alone:.1f} us to a token that comes as an "
        f"output, and {together:.1f} us to one that comes as text alone"
    )


if __name__ == "__main__":
    command_line("tools.gate_cost", __doc__).parse_args()
    asyncio.run(main())
