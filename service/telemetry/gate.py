"""Prometheus series of the gate and of the requests that wait there."""

from prometheus_client import CollectorRegistry

from service.telemetry.labels import OTHER, BoundedNames, RequestLabels
from service.telemetry.series import SeriesFactory
from service.tenants.tenant import Tier

_MAX_REASONS = 32


class GateMetrics:
    """Shows running, waiting and refused requests; implements `gate.GateObserver`."""

    def __init__(self, registry: CollectorRegistry, labels: RequestLabels) -> None:
        make = SeriesFactory(registry)
        self._labels = labels
        self._reasons = BoundedNames(_MAX_REASONS)
        text = "Sequences that hold a permit for the engine."
        self._in_flight = make.gauge("requests_in_flight", text)
        text = "Sequences of flex requests that hold a permit."
        self._background = make.gauge("flex_requests_in_flight", text)
        text = "Interactive requests that wait for a permit."
        self._queued = make.gauge("requests_queued", text, "tenant")
        # An autoscaler treats a missing sample as unknown, so set 0 before any request waits.
        self._queued.labels(OTHER).set(0)
        text = "Flex requests that wait for a permit."
        self._flex_queued = make.gauge("flex_requests_queued", text, "tenant")
        self._flex_queued.labels(OTHER).set(0)
        text = "Flex requests that gave way to interactive ones while they ran, and began again."
        self._preemptions = make.counter("preemptions_total", text)
        self._preemptions[()].inc(0)
        text = "Sequences that the gate lets into the engine at once."
        self._limit = make.gauge("gate_limit", text)
        text = "Requests that were refused, by the error's code."
        self._refusals = make.counter("refusals_total", text, "reason", "tenant")

    def gate_changed(self, in_flight: int, background: int, limit: int) -> None:
        """Set how many sequences hold a permit, how many of these are flex, and how many may."""
        self._in_flight.set(in_flight)
        self._background.set(background)
        self._limit.set(limit)

    def queue_changed(self, tenant: str, tier: Tier, change: int) -> None:
        """Count so many more (or fewer) waiting requests of the tenant."""
        queued = self._queued if tier is Tier.DEFAULT else self._flex_queued
        queued.labels(self._labels.tenant(tenant)).inc(change)

    def preempted(self) -> None:
        """Count a flex request that gave way."""
        self._preemptions[()].inc()

    def refused(self, reason: str, tenant: str) -> None:
        """Count a refused request; the reasons are the errors' codes."""
        self._refusals[self._reasons(reason), self._labels.tenant(tenant)].inc()
