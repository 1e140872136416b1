"""Residency of adapters: which weights the engine holds, and how often requests found them."""

from collections.abc import Mapping

from service.adapters.metrics import AdapterMetrics
from service.adapters.registry import ServedVersion
from service.engine.protocol import AdapterHost, AdapterUsage


class Residency:
    """Follows one engine by regular checks.

    A request whose adapter had been evicted is a miss if the weights were read for it; requests
    that waited for the same read, and all others, are hits. The counts of a version that leaves the
    engine end with the last check.
    """

    def __init__(self, engine: AdapterHost, metrics: AdapterMetrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._seen: dict[int, AdapterUsage] = {}

    async def look(self, served: Mapping[str, ServedVersion]) -> None:
        """Report resident adapters, and their use since the last check; raises EngineDead."""
        resident = await self._engine.resident_adapters()
        usage = await self._engine.adapter_usage()
        ids = {name: version.adapter.engine_id for name, version in served.items()}
        self._metrics.adapters_resident({name: key in resident for name, key in ids.items()})
        self._seen = {
            key: self._report(name, self._seen.get(key, AdapterUsage(0, 0, 0.0)), usage[key])
            for name, key in ids.items()
            if key in usage
        }

    def _report(self, name: str, before: AdapterUsage, now: AdapterUsage) -> AdapterUsage:
        """Report one adapter; returns the totals reported so far."""
        misses = now.reads - before.reads
        # A read is seen before the request that waited for it, which must not count as a hit.
        hits = max(0, now.requests - before.requests - misses)
        self._metrics.adapter_used(name, hits, misses, now.read_seconds - before.read_seconds)
        return AdapterUsage(before.requests + hits + misses, now.reads, now.read_seconds)
