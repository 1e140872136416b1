"""Prometheus series of the gate and of the requests that wait there."""

from prometheus_client import CollectorRegistry

from service.telemetry.series import OTHER, BoundedNames, RequestLabels, SeriesFactory
from service.tenants.tenant import Tier

_MAX_REASONS = 32


class GateMetrics:
    """Shows running, waiting and refused requests, by engine."""

    def __init__(self, registry: CollectorRegistry, labels: RequestLabels) -> None:
        make = SeriesFactory(registry)
        self._labels = labels
        self._reasons = BoundedNames(_MAX_REASONS)
        text = "Sequences that hold a permit for the engine."
        self.in_flight = make.gauge("requests_in_flight", text, "engine")
        text = "Sequences of flex requests that hold a permit."
        self.background = make.gauge("flex_requests_in_flight", text, "engine")
        text = "Interactive requests that wait for a permit."
        self.queued = make.gauge("requests_queued", text, "engine", "tenant")
        text = "Flex requests that wait for a permit."
        self.flex_queued = make.gauge("flex_requests_queued", text, "engine", "tenant")
        text = "Flex requests that gave way to interactive ones while they ran, and began again."
        self.preemptions = make.counter("preemptions_total", text, "engine")
        text = "Sequences that the gate lets into the engine at once."
        self.limit = make.gauge("gate_limit", text, "engine")
        text = "Requests that were refused, by the error's code."
        self._refusals = make.counter("refusals_total", text, "reason", "tenant")

    def refused(self, reason: str, tenant: str) -> None:
        """Count a refused request; the reasons are the errors' codes."""
        self._refusals[self._reasons(reason), self._labels.tenant(tenant)].inc()

    def of(self, engine: str) -> "GateSeries":
        """The series of one engine's gate."""
        return GateSeries(self, engine, self._labels)


class GateSeries:
    """Shows one engine's gate; implements `gate.GateObserver`."""

    def __init__(self, metrics: GateMetrics, engine: str, labels: RequestLabels) -> None:
        self._engine = engine
        self._labels = labels
        self._in_flight = self._background = self._limit = 0
        # Read when the series are: they change several times with each request.
        metrics.in_flight.labels(engine).set_function(lambda: self._in_flight)
        metrics.background.labels(engine).set_function(lambda: self._background)
        metrics.limit.labels(engine).set_function(lambda: self._limit)
        self._queued = {Tier.DEFAULT: metrics.queued, Tier.FLEX: metrics.flex_queued}
        # An autoscaler treats a missing sample as unknown, so set 0 before any request waits.
        for queued in self._queued.values():
            queued.labels(engine, OTHER).set(0)
        self._preemptions = metrics.preemptions[engine,]

    def gate_changed(self, in_flight: int, background: int, limit: int) -> None:
        """Set how many sequences hold a permit, how many of these are flex, and how many may."""
        self._in_flight, self._background, self._limit = in_flight, background, limit

    def queue_changed(self, tenant: str, tier: Tier, change: int) -> None:
        """Count so many more (or fewer) waiting requests of the tenant."""
        self._queued[tier].labels(self._engine, self._labels.tenant(tenant)).inc(change)

    def preempted(self) -> None:
        """Count a flex request that gave way."""
        self._preemptions.inc()
