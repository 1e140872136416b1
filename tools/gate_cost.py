"""Cost of the gate for a request and a token, metrics included: `python -m tools.gate_cost`.

Measures streams of an engine that takes no time, with and without the gate, in turns.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Callable

from prometheus_client import CollectorRegistry
from service.gate.stream import gated

from service.context import internal_request
from service.engine.contract import Progress
from service.errors import ServiceError
from service.gate.gate import Gate
from service.gate.ticket import Demand
from service.settings.gate import GateSettings
from service.telemetry.metrics import Metrics
from tools.command_line import command_line

REQUESTS = 2000
ROUNDS = 15
TOKENS = 64

Stream = Callable[[int], AsyncGenerator[int, None]]


class _Instant:
    """An engine request of so many tokens, one an item; implements `stream.EngineRequest`."""

    def __init__(self, tokens: int) -> None:
        self.demand = Demand(prompt_tokens=32, max_output_tokens=tokens)
        self._tokens = tokens

    async def start(self) -> AsyncGenerator[int, None]:
        for number in range(self._tokens):
            yield number

    def progress(self, item: int) -> Progress:
        return Progress(prompt_tokens=32, cached_tokens=0, new_tokens=1, engine_wait=0.0)

    def explain(self, error: Exception) -> ServiceError | None:
        return None


async def _microseconds(stream: Stream, tokens: int) -> float:
    started = time.perf_counter()
    for _ in range(REQUESTS):
        async with internal_request("cost", 60.0):
            async for _item in stream(tokens):
                pass
    return (time.perf_counter() - started) / REQUESTS * 1e6


async def _added(tokens: int) -> float:
    """Microseconds that the gate adds to a request of so many tokens, a median of rounds."""
    metrics = Metrics(CollectorRegistry())
    gate = Gate(GateSettings(), metrics.of_engine("fake"), capacity=32)

    def with_gate(count: int) -> AsyncGenerator[int, None]:
        return gated(gate, metrics, _Instant(count))

    def without(count: int) -> AsyncGenerator[int, None]:
        return _Instant(count).start()

    return statistics.median(
        [
            await _microseconds(with_gate, tokens) - await _microseconds(without, tokens)
            for _ in range(ROUNDS)
        ]
    )


async def main() -> None:
    """Measure and print."""
    one, many = await _added(1), await _added(TOKENS)
    token = (many - one) / (TOKENS - 1)
    print(f"the gate adds {one:.0f} us to a request and {token:.1f} us to a token")


if __name__ == "__main__":
    command_line("tools.gate_cost", __doc__).parse_args()
    asyncio.run(main())
