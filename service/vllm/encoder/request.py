"""One passage as a part of the current request, which the gate runs."""

from service.engine.contract import Engine, PoolQuery, Progress
from service.engine.pooling import Pooled
from service.errors import ServiceError
from service.gate.meter import Meter
from service.gate.ticket import Demand
from service.vllm.errors import explain


class Pooling:
    """Implements `gate.stream.PushedRequest`; its cost at the gate is its tokens."""

    def __init__(self, engine: Engine, query: PoolQuery) -> None:
        self.demand = Demand(len(query.prompt), 0)
        self.pooled: Pooled | None = None
        """The passage's values, once they are there."""
        self._engine = engine
        self._query = query

    async def push(self, meter: Meter) -> None:
        """Ask the engine, and count the passage."""
        self.pooled = found = await self._engine.pool(self._query)
        meter.add(Progress(found.prompt_tokens, found.cached_tokens, 0))

    def explain(self, error: Exception) -> ServiceError | None:
        return explain(error)

    def restart(self) -> None:
        """Never called: a passage is one step of the engine."""
