"""A snapshot of the metrics in the live view, summed over labels that it does not show."""

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from service.telemetry.series import considerate

_SERIES: Mapping[str, tuple[str, ...]] = {
    "inference_adapter_hits_total": ("adapter",),
    "inference_adapter_info": ("adapter", "version"),
    "inference_adapter_misses_total": ("adapter",),
    "inference_adapter_proof_accuracy": ("adapter",),
    "inference_adapter_resident": ("adapter",),
    "inference_adapter_state": ("adapter", "state"),
    "inference_engine_progress_age_seconds": ("engine",),
    "inference_flex_requests_queued": ("tenant",),
    "inference_admission_limit": ("engine",),
    "inference_refusals_total": ("reason",),
    "inference_requests_in_flight": ("engine",),
    "inference_requests_queued": ("tenant",),
    "inference_tenant_weight": ("tenant",),
    "inference_tokens_total": ("kind", "tenant"),
    "vllm:iteration_tokens_total_count": ("model_name",),
    "vllm:kv_cache_usage_perc": (),
}
"""The series that are read, each with the labels to keep."""
_HISTOGRAMS = (
    "inference_time_per_output_token_seconds",
    "inference_time_to_first_token_seconds",
)
"""Histograms whose buckets are read, summed over all labels."""

_PREFIX = "inference_"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Values by metric and kept labels, at a time in seconds since 1970."""

    at: float
    values: Mapping[tuple[str, ...], float]

    @classmethod
    def of(cls, registry: CollectorRegistry) -> "Snapshot":
        """Read the registry now; takes about 5 us a series of these names, histograms far less."""
        values: dict[tuple[str, ...], float] = defaultdict(float)
        with considerate():
            for family in registry.restricted_registry(_SERIES).collect():
                for sample in family.samples:
                    labels = (sample.labels[name] for name in _SERIES[sample.name])
                    values[sample.name.removeprefix(_PREFIX), *labels] += sample.value
            for name in _HISTOGRAMS:
                for le, count in _buckets(registry, name):
                    values[f"{name.removeprefix(_PREFIX)}_bucket", le] = count
        return cls(time.time(), dict(values))

    def by(self, series: str, *labels: str) -> Iterator[tuple[str, float]]:
        """Values of a metric whose first kept labels are `labels`, by the next label."""
        known = (series, *labels)
        for key, value in self.values.items():
            if len(key) == len(known) + 1 and key[:-1] == known:
                yield key[-1], value

    def sum(self, series: str, *labels: str) -> float:
        """The sum of the values that `by` gives."""
        return sum(value for _, value in self.by(series, *labels))

    def quantile(self, histogram: str, share: float, since: "Snapshot") -> float | None:
        """The quantile of a histogram's samples since a snapshot; None if there were none.

        Linear within a bucket, as Prometheus' histogram_quantile; the last bucket counts as its
        lower bound.
        """
        series = f"{histogram}_bucket"
        before = dict(since.by(series))
        found = [(float(le), count - before.get(le, 0)) for le, count in self.by(series)]
        bounds = sorted(found)
        if not bounds or bounds[-1][1] <= 0:
            return None
        rank, lower, below = share * bounds[-1][1], 0.0, 0.0
        for upper, count in bounds[:-1]:
            if count >= rank:
                return lower + (upper - lower) * (rank - below) / (count - below)
            lower, below = upper, count
        return lower


def _buckets(registry: CollectorRegistry, name: str) -> Iterator[tuple[str, float]]:
    """The counts of a histogram's buckets up to each bound, over all its labels.

    `collect` would make a sample with all labels of each bucket: nine thousand for the two
    histograms with 256 combinations of labels, and ten times as long as all the rest.
    """
    histogram: Any = registry._names_to_collectors.get(name)
    if histogram is None:
        return
    with histogram._lock:
        children = [*histogram._metrics.values()]
    total = 0.0
    for place, bound in enumerate(histogram._upper_bounds):
        total += sum(child._buckets[place].get() for child in children)
        yield str(bound), total
