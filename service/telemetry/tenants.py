"""Series of keys and quotas."""

import time

from prometheus_client import CollectorRegistry

from service.telemetry.series import SeriesFactory


class TenantMetrics:
    """Counts what becomes of keys and quotas; implements `tenants.TenancyObserver`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        make = SeriesFactory(registry)
        text = "Times that changed keys were read: accepted, or refused and the ones before kept."
        self._key_reads = make.counter("key_reloads_total", text, "outcome")
        text = "Time since when changed keys are refused and older ones serve; 0 while none are."
        self._stale_since = make.gauge("keys_stale_since_timestamp_seconds", text)
        self._stale = False
        text = "Times that the store of quotas did not answer: timeout or error."
        self._store_errors = make.counter("quota_store_errors_total", text, "reason")
        # From the start on: to Prometheus the first of a series that was not there is no increase.
        for outcome in ("accepted", "refused"):
            self._key_reads[outcome,].inc(0)
        for reason in ("timeout", "error"):
            self._store_errors[reason,].inc(0)

    def keys_read(self, accepted: bool) -> None:
        """Changed keys were read."""
        self._key_reads["accepted" if accepted else "refused",].inc()
        if accepted == self._stale:
            self._stale = not accepted
            self._stale_since.set(0 if accepted else time.time())

    def quota_store_failed(self, reason: str) -> None:
        """The store of quotas did not answer."""
        self._store_errors[reason,].inc()
