"""Series of tenants' weights, keys and quotas."""

import time
from collections.abc import Mapping, Set

from prometheus_client import CollectorRegistry

from service.telemetry.series import SeriesFactory


class TenantMetrics:
    """Follows keys, weights and failures of quotas; implements `tenants.TenancyObserver`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Reads of changed keys files: accepted, or refused while the previous keys stay."
        self._key_reads = make.counter("key_reloads_total", text, "outcome")
        text = "Time since which changed keys are refused and older ones serve; 0 if none are."
        self._stale_since = make.gauge("keys_stale_since_timestamp_seconds", text)
        self._stale = False
        text = "The tenant's share of the engine relative to others', by the keys files."
        self._weight = make.gauge("tenant_weight", text, "tenant")
        self._weighed: Set[str] = frozenset()
        text = "Failures of the quota store: timeout or error."
        self._store_errors = make.counter("quota_store_errors_total", text, "reason")
        # Create the series at the start: Prometheus sees no increase in a series' first sample.
        for outcome in ("accepted", "refused"):
            self._key_reads[outcome,].inc(0)
        for reason in ("timeout", "error"):
            self._store_errors[reason,].inc(0)

    def weights_read(self, weights: Mapping[str, float]) -> None:
        """Show these weights in place of those before."""
        for name, weight in weights.items():
            self._weight.labels(name).set(weight)
        for name in self._weighed - weights.keys():
            self._weight.remove(name)
        self._weighed = weights.keys()

    def keys_read(self, accepted: bool) -> None:
        """Count changed keys that were read."""
        self._key_reads["accepted" if accepted else "refused",].inc()
        if accepted == self._stale:
            self._stale = not accepted
            self._stale_since.set(0 if accepted else time.time())

    def quota_store_failed(self, reason: str) -> None:
        """Count a failure of the quota store."""
        self._store_errors[reason,].inc()
