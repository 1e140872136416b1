"""Series whose children are found by their labels in one look-up."""

from collections.abc import Iterable
from threading import Lock
from typing import TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.samples import Sample

from service.histogram import observe_all

Buckets = tuple[float, ...]

_MOST_UNSORTED = 4096


class Tally(Histogram):
    """A histogram for a sample of every token: samples are sorted into its buckets when it is read.

    Taking one costs a tenth of `Histogram.observe`. They have no exemplars.
    """

    def _metric_init(self) -> None:
        super()._metric_init()
        self._unsorted: list[float] = []
        self._sorting = Lock()

    def add(self, amount: float, times: int = 1) -> None:
        """Take an amount so many times."""
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

KEY = ("route", "model", "tenant", "service_tier")
"""The labels of `labels.Key`."""


class Children(dict[tuple[str, ...], Child]):
    """The children of one metric by their labels' values.

    prometheus_client's own `labels()` costs as much as observing.
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
        """A counter; its name ends with `_total`."""
        return Children(Counter(f"inference_{name}", text, labels, registry=self._registry))

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """A gauge."""
        return Gauge(f"inference_{name}", text, labels, registry=self._registry)

    def histogram(
        self, name: str, text: str, buckets: Buckets, *labels: str
    ) -> Children[Histogram]:
        """A histogram."""
        name = f"inference_{name}"
        return Children(Histogram(name, text, labels, buckets=buckets, registry=self._registry))

    def tally(self, name: str, text: str, buckets: Buckets, *labels: str) -> Children[Tally]:
        """A histogram of times that are observed many at once."""
        name = f"inference_{name}_seconds"
        return Children(Tally(name, text, labels, buckets=buckets, registry=self._registry))

    def seconds(self, name: str, text: str, buckets: Buckets, *labels: str) -> Children[Histogram]:
        """A histogram of times."""
        return self.histogram(f"{name}_seconds", text, buckets, *labels)
