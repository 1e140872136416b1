"""Series of keys and quotas."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge


class TenantMetrics:
    """Observes the keyring and the quota store."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._key_reads = Counter(
            "inference_key_reloads_total",
            "Times that changed keys were read: accepted, or refused and the ones before kept.",
            ["outcome"],
            registry=registry,
        )
        self._stale_since = Gauge(
            "inference_keys_stale_since_timestamp_seconds",
            "Time since when changed keys are refused and older ones serve; 0 while none are.",
            registry=registry,
        )
        self._stale = False
        self._store_errors = Counter(
            "inference_quota_store_errors_total",
            "Times that the store of quotas did not answer: timeout or error.",
            ["reason"],
            registry=registry,
        )
        # From the start on: to Prometheus the first of a series that was not there is no increase.
        for outcome in ("accepted", "refused"):
            self._key_reads.labels(outcome)
        for reason in ("timeout", "error"):
            self._store_errors.labels(reason)

    def keys_read(self, accepted: bool) -> None:
        """Changed keys were read."""
        self._key_reads.labels("accepted" if accepted else "refused").inc()
        if accepted == self._stale:
            self._stale = not accepted
            self._stale_since.set(0 if accepted else time.time())

    def quota_store_failed(self, reason: str) -> None:
        """The store of quotas did not answer."""
        self._store_errors.labels(reason).inc()
