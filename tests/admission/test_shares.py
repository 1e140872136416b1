"""Shares that the policy gives to tenants and clients, in a model of the engine, in model time."""

import math
from random import Random

import pytest

from service.admission.limiter import Targets
from service.errors import TooManyRequests
from service.settings.admission import AdmissionSettings
from service.settings.telemetry import SloSettings
from tests.admission.batch_engine import (
    CEILING,
    STEP_PER_SLOT_S,
    STEP_S,
    BatchEngine,
    Report,
    Source,
)

CAPACITY = CEILING / (30.5 * (STEP_S + STEP_PER_SLOT_S * CEILING))
"""Requests a second of the full engine: 30.5 is the mean length of an answer."""
TWO_STEPS = 2 * (STEP_S + STEP_PER_SLOT_S * CEILING)
"""Seconds to a first token without waiting: what is left of a full engine's step, and the next."""
TWO_MINUTES = 120.0


def jain(*served: float) -> float:
    """Jain's fairness index: 1 when all are equal."""
    return sum(served) ** 2 / (len(served) * sum(each**2 for each in served))


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[int(part * (len(values) - 1))]


def beside(light: Source, other: Source) -> Report:
    return BatchEngine(light, other).run(TWO_MINUTES)


def test_ten_times_the_requests_get_no_more_service() -> None:
    report = beside(Source("light", CAPACITY), Source("heavy", 10 * CAPACITY))
    assert jain(report.served["light"], report.served["heavy"]) >= 0.98


def test_a_flooding_neighbour_does_not_delay_the_first_token() -> None:
    light = Source("light", 0.6 * CAPACITY)
    flooded = beside(light, Source("heavy", 6 * CAPACITY)).first_token["light"]
    equal = beside(light, Source("equal", 0.6 * CAPACITY)).first_token["light"]
    assert percentile(flooded, 0.95) <= 1.5 * percentile(equal, 0.95)


def test_a_tenant_below_its_share_hardly_waits_and_is_not_refused() -> None:
    light = Source("light", 0.1 * CAPACITY)
    report = beside(light, Source("heavy", 10 * CAPACITY))
    assert not report.refused["light"]
    assert percentile(report.first_token["light"], 0.95) < 1.0


@pytest.mark.parametrize("ratio", [10, 100])
def test_a_tenant_within_its_share_is_served_whatever_its_neighbour_asks(ratio: int) -> None:
    light = Source("light", 0.15 * CAPACITY)
    engine = BatchEngine(light, Source("heavy", ratio * light.per_second), max_wait=1.5)
    flooded = engine.run(TWO_MINUTES)
    rest = BatchEngine(light, Source("rest", 0.85 * CAPACITY), max_wait=1.5).run(TWO_MINUTES)
    assert not flooded.refused["light"]
    times = flooded.first_token["light"]
    assert percentile(times, 0.95) <= 1.5 * percentile(rest.first_token["light"], 0.95)
    assert percentile(times, 0.95) < 1.1 * TWO_STEPS


def test_a_light_tenant_is_not_delayed_by_its_own_requests() -> None:
    light = Source("light", 0.2 * CAPACITY, prompt=100)
    report = beside(light, Source("heavy", 4 * CAPACITY, prompt=100))
    assert percentile(report.first_token["light"], 0.95) < 1.1 * TWO_STEPS


def test_the_reserved_slots_cost_a_flood_no_more_than_a_twentieth() -> None:
    light, heavy = Source("light", 0.05 * CAPACITY), Source("heavy", 10 * CAPACITY)
    alone = BatchEngine(heavy).run(TWO_MINUTES)
    both = BatchEngine(light, heavy).run(TWO_MINUTES)
    assert sum(both.served.values()) >= 0.95 * alone.served["heavy"]


@pytest.mark.parametrize("weights", [(3.0, 1.0), (1.0, 3.0)])
def test_weights_of_three_to_one_give_three_to_one(weights: tuple[float, float]) -> None:
    first, second = (Source(f"w{weight}", 3 * CAPACITY, weight) for weight in weights)
    served = beside(first, second).served
    assert served["w3.0"] / served["w1.0"] == pytest.approx(3.0, rel=0.05)


def test_different_shapes_of_requests_get_the_same_service() -> None:
    long = Source("long", 2 * CAPACITY, prompt=400, longest=200, timeout=100.0)
    short = Source("short", 9 * CAPACITY, prompt=10, longest=20)
    report = beside(long, short)
    assert jain(report.served["long"], report.served["short"]) >= 0.98


@pytest.mark.parametrize("timeout", [5.0, 20.0])
def test_overload_keeps_the_goodput(timeout: float) -> None:
    good = {}
    for load in (0.5, 0.8, 1.0, 2.0, 5.0):
        report = BatchEngine(Source("a", load * CAPACITY, timeout=timeout)).run(TWO_MINUTES)
        good[load] = report.good
    assert good[5.0] >= 0.9 * max(good.values())


def test_a_longest_wait_bounds_the_first_token_under_overload() -> None:
    engine = BatchEngine(Source("a", 5 * CAPACITY, timeout=60.0), max_wait=2.0)
    engine.run(60.0)
    settled = len(engine.report.first_token["a"])
    report = engine.run(TWO_MINUTES)
    assert percentile(report.first_token["a"][settled:], 0.99) < 3.0
    assert report.good > 0.95 * CAPACITY * TWO_MINUTES


def test_the_default_wait_keeps_the_default_objective_under_overload() -> None:
    jitter = Random(1)
    pace = [math.exp(jitter.gauss(0.0, 0.3)) for _ in range(200)]  # one for each second
    longest = AdmissionSettings().max_wait_ms / 1000
    source = Source("a", 5 * CAPACITY, timeout=60.0)
    engine = BatchEngine(source, max_wait=longest, slowness=lambda now: pace[int(now)])
    engine.run(60.0)
    settled = len(engine.report.first_token["a"])
    report = engine.run(TWO_MINUTES)
    objective = SloSettings().ttft_ms or 0.0
    assert percentile(report.first_token["a"][settled:], 0.97) < objective / 1000


def test_an_engine_whose_memory_is_full_is_given_less_and_does_more() -> None:
    source = Source("a", 2 * CAPACITY)
    blind = Targets(token=1e9, engine_wait=1e9)
    fixed = BatchEngine(source, knee=12, targets=blind).run(TWO_MINUTES)
    adaptive = BatchEngine(source, knee=12, targets=Targets(token=0.1)).run(TWO_MINUTES)
    assert adaptive.good_tokens > 2 * fixed.good_tokens


def test_below_capacity_nobody_is_refused() -> None:
    report = BatchEngine(Source("a", 0.8 * CAPACITY)).run(TWO_MINUTES)
    assert not report.refused["a"]
    assert report.late == 0


def test_the_flooding_tenant_is_told_that_it_is_its_own_excess() -> None:
    report = beside(Source("light", 0.3 * CAPACITY), Source("heavy", 10 * CAPACITY))
    kinds = [type(refusal) for refusal in report.refused["heavy"]]
    assert kinds.count(TooManyRequests) > 0.9 * len(kinds)
