"""The history of ten minutes: rates, tables, and a bound on what it keeps."""

from collections import Counter
from collections.abc import Mapping

from prometheus_client import CollectorRegistry

from service.context import internal_context
from service.plugins.console.history import INTERVAL_S, History
from service.plugins.console.snapshot import Snapshot
from service.telemetry.metrics import Metrics


class Past:
    """Snapshots as a test says them, an interval apart; a value stays until it is said again."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, ...], float] = {}
        self._at = 1000.0
        self.history = History(CollectorRegistry(), self._read)

    def _read(self, registry: CollectorRegistry) -> Snapshot:
        self._at += INTERVAL_S
        return Snapshot(self._at, dict(self.values))

    def take(self, values: Mapping[tuple[str, ...], float], times: int = 1) -> None:
        self.values |= values
        for _ in range(times):
            self.history.take()


def used(tenant: str, completion: float) -> dict[tuple[str, ...], float]:
    return {("tokens_total", "completion", tenant): completion}


def test_a_point_has_rates_a_second_and_the_present_state() -> None:
    past = Past()
    past.take(used("a", 75) | {("requests_in_flight", "m"): 2, ("requests_queued", "a"): 5})
    past.take(used("a", 100) | {("refusals_total", "queue_full"): 20})
    points = past.history.shown()["points"]
    assert points["completion_tokens"] == [15, 5]
    assert points["in_flight"] == [2, 2]
    assert points["queued"] == [5, 5]
    assert points["refused"] == [0, 4]
    assert points["kv_cache"] == points["ttft_p50"] == [None, None]


def test_it_keeps_ten_minutes() -> None:
    past = Past()
    past.take({}, times=1000)
    points = past.history.shown()["points"]
    assert {len(column) for column in points.values()} == {120}
    assert points["at"][-1] - points["at"][0] == 600 - INTERVAL_S


def test_tenants_have_their_tokens_of_the_last_minute_and_what_their_weights_are_due() -> None:
    past = Past()
    past.take(used("early", 10_000) | used("late", 0) | {("requests_queued", "other"): 0})
    past.take({}, times=60)
    past.take(used("late", 600) | {("flex_requests_queued", "waits"): 3})
    past.values |= {("tenant_weight", "late"): 3.0, ("tenant_weight", "early"): 5.0}
    past.take({})
    shown = past.history.shown()["tenants"]
    assert shown == [
        {"tenant": "late", "queued": 0, "flex_queued": 0, "tokens": 10, "due": 0.75},
        {"tenant": "early", "queued": 0, "flex_queued": 0, "tokens": 0, "due": 0},
        {"tenant": "waits", "queued": 0, "flex_queued": 3, "tokens": 0, "due": 0.25},
    ]


def test_refusals_are_ordered_by_the_last_minute() -> None:
    past = Past()
    past.take({("refusals_total", "draining"): 50})
    past.take({}, times=60)
    past.take({("refusals_total", "queue_full"): 4})
    assert past.history.shown()["refusals"] == [
        {"reason": "queue_full", "last_minute": 4, "total": 4},
        {"reason": "draining", "last_minute": 0, "total": 50},
    ]


def test_adapters_have_their_state_and_use() -> None:
    past = Past()
    past.take(
        {
            ("adapter_state", "a", "serving"): 1,
            ("adapter_state", "a", "quarantined"): 0,
            ("adapter_state", "b", "quarantined"): 1,
            ("adapter_info", "a", "1.2.0"): 1,
            ("adapter_resident", "a"): 1,
            ("adapter_proof_accuracy", "a"): 0.96,
            ("adapter_hits_total", "a"): 7,
        }
    )
    shown = past.history.shown()["adapters"]
    a = {"adapter": "a", "state": "serving", "version": "1.2.0", "proof": 0.96, "resident": True}
    b = {"adapter": "b", "state": "quarantined", "version": None, "proof": None, "resident": False}
    assert shown == [a | {"hits": 7, "misses": 0}, b | {"hits": 0, "misses": 0}]


def test_engines_have_their_steps_and_the_age_of_the_last() -> None:
    past = Past()
    steps = ("vllm:iteration_tokens_total_count", "m")
    values: dict[tuple[str, ...], float] = {
        ("requests_in_flight", "m"): 2.0,
        ("admission_limit", "m"): 8.0,
        ("engine_progress_age_seconds", "m"): 0.04,
    }
    past.take(values | {steps: 10.0})
    past.take({steps: 110.0})
    shown = past.history.shown()
    assert shown["points"]["steps"] == [2, 20]
    assert shown["engines"] == [
        {"engine": "m", "in_flight": 2, "limit": 8, "steps": 20, "step_age": 0}
    ]


def test_a_snapshot_adds_up_buckets_as_a_scrape_shows_them() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    for number in range(30):
        context = internal_context("test", 60.0)
        context.model = f"m{number % 7}"
        metrics.first_token(context, 0.003 * 1.4**number)
    seen = Counter[float]()
    for family in registry.collect():
        for sample in family.samples:
            if sample.name == "inference_time_to_first_token_seconds_bucket":
                seen[float(sample.labels["le"])] += int(sample.value)
    found = Snapshot.of(registry).by("time_to_first_token_seconds_bucket")
    assert {float(le): count for le, count in found} == seen
    assert 0 < seen[0.5] < seen[float("inf")] == 30
