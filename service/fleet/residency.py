"""Residency of adapters: whose weights the engine holds, and how often requests found them."""

from collections.abc import Mapping

from service.engine.protocol import AdapterHost, AdapterUsage
from service.fleet.metrics import AdapterMetrics
from service.fleet.version import ServedVersion


class Residency:
    """Follows one engine by looking at it now and then.

    A request whose adapter had been evicted is a miss if the weights were read for it; those
    that waited for the same read, and all others, are hits. The counts of a version that leaves
    the engine end with the last look at it.
    """

    def __init__(self, engine: AdapterHost, metrics: AdapterMetrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._seen: dict[int, AdapterUsage] = {}

    async def look(self, served: Mapping[str, ServedVersion]) -> None:
        """Tell the observer what is resident, and what was used since the last look.

        Raises EngineDead.
        """
        resident = await self._engine.resident_adapters()
        usage = await self._engine.adapter_usage()
        ids = {name: version.adapter.engine_id for name, version in served.items()}
        self._metrics.adapters_resident({name: key in resident for name, key in ids.items()})
        self._seen = {
            key: self._told(name, self._seen.get(key, AdapterUsage(0, 0, 0.0)), usage[key])
            for name, key in ids.items()
            if key in usage
        }

    def _told(self, name: str, before: AdapterUsage, now: AdapterUsage) -> AdapterUsage:
        """Tell of one adapter; returns what has been told of it now."""
        misses = now.reads - before.reads
        # A read is seen before the request that waited for it: that one must not become a hit.
        hits = max(0, now.requests - before.requests - misses)
        self._metrics.adapter_used(name, hits, misses, now.read_seconds - before.read_seconds)
        return AdapterUsage(before.requests + hits + misses, now.reads, now.read_seconds)
