"""Snapshots of a registry: sums over the labels that are not kept, and quantiles."""

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from service.plugins.console.snapshot import Snapshot


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


def test_values_are_added_up_over_the_other_labels(registry: CollectorRegistry) -> None:
    tokens = Counter("inference_tokens_total", "", ("kind", "tenant", "route"), registry=registry)
    Gauge("inference_other", "", registry=registry).set(7)
    for route, tenant, amount in (("a", "x", 1), ("b", "x", 2), ("a", "y", 4)):
        tokens.labels("completion", tenant, route).inc(amount)
        tokens.labels("prompt", tenant, route).inc(100)
    found = Snapshot.of(registry)
    assert dict(found.by("tokens_total", "completion")) == {"x": 3, "y": 4}
    assert found.sum("tokens_total", "prompt") == 300
    assert found.sum("refusals_total") == 0
    assert {key[0] for key in found.values} == {"tokens_total"}


def test_a_quantile_is_of_what_came_since(registry: CollectorRegistry) -> None:
    name = "time_to_first_token_seconds"
    times = Histogram(f"inference_{name}", "", ("route",), buckets=(1, 2, 4), registry=registry)
    times.labels("a").observe(3)
    before = Snapshot.of(registry)
    assert before.quantile(name, 0.5, before) is None
    for route in "ab":
        times.labels(route).observe(0.5)
        times.labels(route).observe(1.5)
    now = Snapshot.of(registry)
    assert now.quantile(name, 0.5, before) == 1
    assert now.quantile(name, 0.75, before) == 1.5
    assert now.quantile(name, 0.25, before) == 0.5
    for _ in range(100):
        times.labels("a").observe(60)
    assert Snapshot.of(registry).quantile(name, 0.95, now) == 4


def test_a_registry_without_these_series_gives_an_empty_one(registry: CollectorRegistry) -> None:
    found = Snapshot.of(registry)
    assert found.values == {}
    assert found.quantile("time_to_first_token_seconds", 0.5, found) is None
