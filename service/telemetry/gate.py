"""Prometheus series of the gate and of the requests that wait there."""

from prometheus_client import CollectorRegistry

from service.telemetry.labels import OTHER, BoundedNames, RequestLabels
from service.telemetry.series import SeriesFactory

_MAX_REASONS = 32


class GateMetrics:
    """Shows running, waiting and refused requests; implements `gate.GateObserver`."""

    def __init__(self, registry: CollectorRegistry, labels: RequestLabels) -> None:
        make = SeriesFactory(registry)
        self._labels = labels
        self._reasons = BoundedNames(_MAX_REASONS)
        text = "Sequences that hold a permit for the engine."
        self._in_flight = make.gauge("requests_in_flight", text)
        text = "Requests that wait for a permit."
        self._queued = make.gauge("requests_queued", text, "tenant")
        # An autoscaler treats a missing sample as unknown, so set 0 before any request waits.
        self._queued.labels(OTHER).set(0)
        text = "Sequences that the gate lets into the engine at once."
        self._limit = make.gauge("gate_limit", text)
        text = "Requests that were refused, by the error's code."
        self._refusals = make.counter("refusals_total", text, "reason", "tenant")

    def gate_changed(self, in_flight: int, limit: int) -> None:
        """Set how many sequences hold a permit, and how many may."""
        self._in_flight.set(in_flight)
        self._limit.set(limit)

    def queue_changed(self, tenant: str, change: int) -> None:
        """Count so many more (or fewer) waiting requests of the tenant."""
        self._queued.labels(self._labels.tenant(tenant)).inc(change)

    def refused(self, reason: str, tenant: str) -> None:
        """Count a refused request; the reasons are the errors' codes."""
        self._refusals[self._reasons(reason), self._labels.tenant(tenant)].inc()
