"""The number of label values stays bounded, whatever clients send."""

import random

from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from service.context import Ending, Times
from service.engine.contract import Adapter
from service.settings.telemetry import MetricsSettings
from service.telemetry.metrics import Metrics
from service.telemetry.series import OTHER, BoundedNames, Key, RequestLabels
from service.tenants.tenant import Tier
from tests.live_service import LiveService
from tests.telemetry.contexts import ended_request

MAX_TENANTS, MAX_COMBINATIONS = 8, 20


@given(st.lists(st.text(max_size=3)))
def test_the_first_names_stand_for_themselves(names: list[str]) -> None:
    bounded = BoundedNames(3)
    shown = [bounded(name) for name in names]
    first = list(dict.fromkeys(names))[:3]
    assert shown == [name if name in first else OTHER for name in names]


@given(st.lists(st.tuples(st.sampled_from("rst"), st.sampled_from("mn"), st.integers(0, 50))))
def test_keys_are_bounded_and_never_change(requests: list[tuple[str, str, int]]) -> None:
    labels = RequestLabels(MAX_TENANTS, MAX_COMBINATIONS)
    keys: dict[tuple[str, str, int], Key] = {}
    for route, model, tenant in requests:
        key = labels.of(ended_request(route=route, model=model, tenant=str(tenant)))
        assert keys.setdefault((route, model, tenant), key) == key
        assert (key.route, key.model, key.service_tier) == (route, model, "default")
        assert key.tenant in (str(tenant), OTHER)
    found = set(keys.values())
    assert len({key.tenant for key in found} - {OTHER}) <= MAX_TENANTS
    assert len([key for key in found if key.tenant != OTHER]) <= MAX_COMBINATIONS


def test_versions_of_an_adapter_share_their_series() -> None:
    context = ended_request(model="sentiment@1.0.0")
    context.adapter = Adapter("sentiment", 1, "/a", "sha256:1")
    assert RequestLabels(1, 1).of(context).model == "sentiment"


def observe_everything(metrics: Metrics, tenant: str, reason: str) -> None:
    context = ended_request(tenant=tenant, times=Times(decode=0.1, decode_tokens=2))
    engine = metrics.of_engine("m")
    engine.queue_changed(tenant, Tier.DEFAULT, 1)
    metrics.queued_for(context, 0.1)
    engine.queue_changed(tenant, Tier.DEFAULT, -1)
    metrics.first_token(context, 0.1)
    metrics.between_tokens(context)(0.05, 2)
    metrics.used(context, 1, 0, 3)
    metrics.count_request(context, Ending("ok", 200))
    metrics.count_refusal(reason, tenant)


def series(registry: CollectorRegistry) -> set[tuple[str, ...]]:
    """Names and labels of all samples."""
    return {
        (sample.name, *map(str, sorted(sample.labels.items())))
        for family in registry.collect()
        for sample in family.samples
    }


def test_ten_thousand_tenants_and_reasons_leave_few_series() -> None:
    registry = CollectorRegistry()
    bounds = MetricsSettings(max_tenants=MAX_TENANTS, max_combinations=MAX_COMBINATIONS)
    metrics = Metrics(registry, bounds)
    for number in range(100):
        observe_everything(metrics, f"tenant-{number}", f"reason-{number}")
    before = series(registry)
    for number in range(10_000):
        observe_everything(metrics, f"tenant-{number}", f"reason-{number}")
    assert series(registry) - before == set()
    total = sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "inference_requests_total"
    )
    assert total == 10_100


async def test_random_models_labels_and_routes_leave_few_series() -> None:
    rng = random.Random(1)
    with LiveService() as live:
        async with live.client() as client:

            async def send(count: int) -> set[tuple[str, ...]]:
                for _ in range(count):
                    word = f"{rng.getrandbits(64):x}"
                    labels = {"candidate_labels": [word, f"{word}2"], "calibrate": False}
                    classify = {"model": "fake", "input": word} | labels
                    await client.post("/v1/classify", json=classify)
                    await client.post("/v1/generate", json={"model": word, "prompt": "a"})
                    await client.get(f"/{word}")
                return series(live.registry)

            few = await send(3)
            assert await send(200) - few == set()
