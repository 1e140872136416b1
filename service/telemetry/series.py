"""Building blocks of metrics: bounded labels, kinds of series, and the scrape's text."""

import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Set
from contextlib import contextmanager
from threading import Lock
from typing import NamedTuple, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.samples import Sample

from service.common.counting import observe_all
from service.context import RequestContext
from service.engine.contract import Pulse
from service.tenants.tenant import Tier

OTHER = "other"
"""Label for all names beyond the limit."""


class BoundedNames:
    """Names as labels: the first `limit` names unchanged, every later one as `OTHER`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._names: set[str] = set()

    def __call__(self, name: str) -> str:
        if name in self._names:
            return name
        if len(self._names) >= self._limit:
            return OTHER
        self._names.add(name)
        return name


class Key(NamedTuple):
    """Labels of a request's series: route, model, tenant and service tier."""

    route: str
    model: str
    tenant: str
    service_tier: str


KEY = Key._fields


class RequestLabels:
    """The keys of requests: at most `max_tenants` tenants, at most `max_combinations` keys.

    Beyond either limit the tenant becomes `OTHER`, so there are at most `max_combinations` keys
    plus one for each combination of route, model and tier. Routes are templates. Models are served
    names; names of adapters have no version.
    """

    def __init__(self, max_tenants: int, max_combinations: int) -> None:
        self._tenants = BoundedNames(max_tenants)
        self._max_combinations = max_combinations
        self._keys: dict[tuple[str, str, str, str], Key] = {}

    def tenant(self, name: str) -> str:
        """A tenant's label."""
        return self._tenants(name)

    def of(self, context: RequestContext) -> Key:
        """The key for a request's series, from the fields of its context that are known so far."""
        model = context.unversioned_model
        name = (context.route, model, context.tenant.name, context.tier)
        key = self._keys.get(name)
        if key is not None:
            return key
        key = Key(context.route, model, self._tenants(context.tenant.name), context.tier)
        if len(self._keys) < self._max_combinations and key.tenant != OTHER:
            self._keys[name] = key
            return key
        return key._replace(tenant=OTHER)


Buckets = tuple[float, ...]

_MOST_UNSORTED = 4096


class Tally(Histogram):
    """A cheap histogram for one sample per token; a scrape puts the samples into buckets.

    Adding a sample costs a tenth of `Histogram.observe`. Samples have no exemplars.
    """

    def _metric_init(self) -> None:
        super()._metric_init()
        self._unsorted: list[float] = []
        self._sorting = Lock()

    def add(self, amount: float, times: int = 1) -> None:
        """Add a sample `times` times."""
        if times == 1:
            self._unsorted.append(amount)
        else:
            self._unsorted.extend([amount] * times)
        if len(self._unsorted) >= _MOST_UNSORTED:
            self._sort()

    def _child_samples(self) -> Iterable[Sample]:
        self._sort()
        return super()._child_samples()

    def _sort(self) -> None:
        # The loop adds while another thread reads: remove only the samples that were copied.
        with self._sorting:
            amounts = self._unsorted[:]
            del self._unsorted[: len(amounts)]
        if amounts:
            observe_all(self, amounts)


Child = TypeVar("Child", Counter, Gauge, Histogram, Tally)

LATENCY: Buckets = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300),
)
TOKEN_LATENCY: Buckets = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.075, 0.1, 0.2, 0.5, 1, 5),
)
"""Seconds."""


class Children(dict[tuple[str, ...], Child]):
    """Caches the children of one metric by their label values.

    prometheus_client's `labels()` costs as much as an observation.
    """

    def __init__(self, metric: Child) -> None:
        super().__init__()
        self._metric: Child = metric

    def __missing__(self, values: tuple[str, ...]) -> Child:
        child: Child = self._metric.labels(*values) if values else self._metric
        self[values] = child
        return child


class SeriesFactory:
    """Makes the metrics of one registry; every name begins with `inference_`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def counter(self, name: str, text: str, *labels: str) -> Children[Counter]:
        return Children(Counter(f"inference_{name}", text, labels, registry=self._registry))

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"inference_{name}", text, labels, registry=self._registry)

    def histogram(
        self, name: str, text: str, buckets: Buckets, *labels: str
    ) -> Children[Histogram]:
        name = f"inference_{name}"
        return Children(Histogram(name, text, labels, buckets=buckets, registry=self._registry))

    def tally(self, name: str, text: str, buckets: Buckets, *labels: str) -> Children[Tally]:
        """A histogram for many samples, such as one of every token."""
        name = f"inference_{name}_seconds"
        return Children(Tally(name, text, labels, buckets=buckets, registry=self._registry))


class EngineGauges:
    """The series of all engines and their admission control, by the name of the engine's model."""

    def __init__(self, make: SeriesFactory, labels: RequestLabels) -> None:
        self.labels = labels
        text = "Sequences that hold a slot for the engine."
        self.in_flight = make.gauge("requests_in_flight", text, "engine")
        text = "Sequences of flex requests that hold a slot."
        self.background = make.gauge("flex_requests_in_flight", text, "engine")
        text = "Interactive requests that wait for a slot."
        self.queued = make.gauge("requests_queued", text, "engine", "tenant")
        text = "Flex requests that wait for a slot."
        self.flex_queued = make.gauge("flex_requests_queued", text, "engine", "tenant")
        text = "Requests that wait for a slot, of all tenants and both tiers; for routers."
        self.waiting = make.gauge("requests_waiting", text, "engine")
        text = "Flex requests that gave way to interactive ones while they ran, and began again."
        self.preemptions = make.counter("preemptions_total", text, "engine")
        text = "Sequences that may be in the engine at once."
        self.limit = make.gauge("admission_limit", text, "engine")
        text = "Old name of `inference_admission_limit`, for one version more."
        self.old_limit = make.gauge("gate_limit", text, "engine")
        text = "Seconds since the engine's last step, while something runs in it; else 0."
        self.age = make.gauge("engine_progress_age_seconds", text, "engine")
        text = "1 while tenants' service is shared with other replicas, 0 while the store is away."
        self.shared = make.gauge("fairness_shared", text, "engine")
        text = "Seconds since the last exchange with the store of `admission.storage`."
        self.exchange_age = make.gauge("fairness_exchange_age_seconds", text, "engine")
        text = "Exchanges with the store of `admission.storage`: ok, timeout or error."
        self.exchanges = make.counter("fairness_exchanges_total", text, "engine", "outcome")
        text = "1 while the watchdog finds the engine stalled."
        self.stalled = make.gauge("engine_stalled", text, "engine")


class EngineSeries:
    """Shows one engine and its admission control.

    Implements `controller.AdmissionObserver` and `shared.ExchangeObserver`.

    Most series are computed when they are read, because they change several times with each
    request, and so that a hanging event loop is visible.
    """

    def __init__(self, gauges: EngineGauges, engine: str) -> None:
        self._engine = engine
        self._labels = gauges.labels
        self._in_flight = self._background = self._limit = self.waiting = 0
        self._busy_since = 0.0
        gauges.in_flight.labels(engine).set_function(lambda: self._in_flight)
        gauges.background.labels(engine).set_function(lambda: self._background)
        for limit in (gauges.limit, gauges.old_limit):
            limit.labels(engine).set_function(lambda: self._limit)
        gauges.waiting.labels(engine).set_function(lambda: self.waiting)
        self._queued = {Tier.DEFAULT: gauges.queued, Tier.FLEX: gauges.flex_queued}
        # An autoscaler treats a missing sample as unknown, so set 0 before any request waits.
        for queued in self._queued.values():
            queued.labels(engine, OTHER).set(0)
        self._preemptions = gauges.preemptions[engine,]
        self._gauges = gauges
        self._age, self._stalled = gauges.age.labels(engine), gauges.stalled.labels(engine)

    @property
    def utilization(self) -> float:
        """Slots that are in use or waited for, at least one, as a part of those there are."""
        wanted = max(1, self._in_flight + self.waiting)
        return wanted / self._limit if self._limit else 0.0  # before the first request

    def load_changed(self, in_flight: int, background: int, limit: int) -> None:
        """Set how many sequences hold a slot, how many of these are flex, and how many may."""
        if in_flight and not self._in_flight:
            self._busy_since = time.monotonic()
        self._in_flight, self._background, self._limit = in_flight, background, limit

    def queue_changed(self, tenant: str, tier: Tier, change: int) -> None:
        """Change the number of waiting requests of the tenant."""
        self.waiting += change
        self._queued[tier].labels(self._engine, self._labels.tenant(tenant)).inc(change)

    def preempted(self) -> None:
        """Count a preempted flex request."""
        self._preemptions.inc()

    def exchanged(self, outcome: str) -> None:
        """Count an exchange with other replicas: ok, timeout or error."""
        self._gauges.exchanges[self._engine, outcome].inc()

    def follow_sharing(self, age: Callable[[], float], alone: Set[str]) -> None:
        """Show the age of the last exchange, and whether the engine's name is in `alone`."""
        for outcome in ("ok", "timeout", "error"):
            self._gauges.exchanges[self._engine, outcome].inc(0)
        self._gauges.exchange_age.labels(self._engine).set_function(age)
        shared = self._gauges.shared.labels(self._engine)
        shared.set_function(lambda: float(self._engine not in alone))

    def follow(self, pulse: Pulse, stalled: Set[str]) -> None:
        """Show the steps of this engine, and whether its name is among the stalled ones."""

        def age() -> float:
            if not self._in_flight:
                return 0.0
            return max(0.0, time.monotonic() - max(pulse.last_step, self._busy_since))

        self._age.set_function(age)
        self._stalled.set_function(lambda: float(self._engine in stalled))


_OPENMETRICS = "application/openmetrics-text"
_SWITCH_SECONDS = 0.0005
_ONE_SCRAPE = threading.Lock()


def expose(registry: CollectorRegistry, accept: str) -> tuple[bytes, str]:
    """All series as text, with its content type: OpenMetrics or Prometheus' format, as accepted.

    Takes 6 us of CPU time per series; call it in a thread beside the loop that serves.
    """
    with considerate():
        if _OPENMETRICS not in accept:
            return generate_latest(registry), CONTENT_TYPE_PLAIN_0_0_4
        # Any other escaping, `choose_encoder`'s own too, would write `vllm_` for `vllm:`.
        body: bytes = openmetrics.generate_latest(  # type: ignore[no-untyped-call]
            registry, escaping=openmetrics.ALLOWUTF8
        )
        return body, f"{_OPENMETRICS}; version=1.0.0; charset=utf-8"


@contextmanager
def considerate() -> Iterator[None]:
    """Switch threads ten times as often as usual during the block, for the event loop's sake.

    With Python's switch interval of 5 ms, the loop waits that long each time it needs the GIL: 50
    ms in all during a scrape of 30,000 series, instead of 4 to 6. Scrapes run one after the other,
    because two that overlap would restore the wrong interval.
    """
    with _ONE_SCRAPE:
        before = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_SECONDS)
        try:
            yield
        finally:
            sys.setswitchinterval(before)
