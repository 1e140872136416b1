"""Background work beside interactive work: in a model of an engine, in model time."""

import pytest

from service.admission.background import spare_slots
from service.admission.queued_request import QueuedRequest
from service.settings.admission import BackgroundSettings
from tests.admission.batch_engine import (
    CEILING,
    STEP_PER_SLOT_S,
    STEP_S,
    BatchEngine,
    Report,
    Source,
)

pytestmark = pytest.mark.slow

FLAT = 3e-5
"""Seconds that a sequence adds to a step of an accelerator whose memory is the bottleneck."""
TWO_MINUTES = 120.0


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[int(part * (len(values) - 1))]


def capacity(step_per_slot: float) -> float:
    """Requests a second of the full engine, whose answers have 30.5 tokens on average."""
    return CEILING / (30.5 * (STEP_S + step_per_slot * CEILING))


def played(*sources: Source, step: float = FLAT, rules: BackgroundSettings | None = None) -> Report:
    engine = BatchEngine(*sources, max_wait=1.5, step_per_slot=step, background=rules)
    return engine.run(TWO_MINUTES)


def interactive(load: float, step: float = FLAT) -> Source:
    return Source("people", load * capacity(step))


def batch(tenant: str = "batch", load: float = 2.0, step: float = FLAT, **more: float) -> Source:
    each = Source(tenant, load * capacity(step), background=True, timeout=1e9)
    return Source(**{**{name: getattr(each, name) for name in each.__slots__}, **more})


@pytest.mark.parametrize("load", [0.2, 0.6])
def test_the_first_token_comes_as_soon_as_without_background_work(load: float) -> None:
    alone = played(interactive(load)).first_token["people"]
    beside = played(interactive(load), batch())
    assert not beside.refused["people"]
    ratio = percentile(beside.first_token["people"], 0.95) / percentile(alone, 0.95)
    assert ratio <= 1.10


def test_where_each_sequence_costs_time_a_setting_trades_it_for_throughput() -> None:
    step = STEP_PER_SLOT_S
    people = interactive(0.6, step)
    alone = played(people, step=step).first_token["people"]
    ratios, served = [], []
    for most in (1, 4, 16):
        rules = BackgroundSettings(max_in_flight=most)
        report = played(people, batch(step=step), step=step, rules=rules)
        ratios.append(percentile(report.first_token["people"], 0.95) / percentile(alone, 0.95))
        served.append(report.served["batch"])
    assert ratios[0] <= 1.10
    assert ratios == sorted(ratios)
    assert served == sorted(served)


def test_background_work_gets_what_is_left() -> None:
    report = played(interactive(0.6), batch())
    full = played(batch(load=3.0)).served["batch"]
    assert report.served["batch"] >= 0.85 * (full - report.served["people"])


class EarlyEngine(BatchEngine):
    """An engine that begins its next step before the scheduler hears of the last one's end."""

    def __init__(self, *sources: Source) -> None:
        super().__init__(*sources, step_per_slot=FLAT)
        self._here: list[QueuedRequest] = []

    def batch(self) -> list[QueuedRequest]:
        """The sequences that were in the engine when the step before ended."""
        here, self._here = self._here, list(self._done)
        return [request for request in here if request in self._done][:CEILING]


def test_background_alone_is_as_fast_as_an_engine_with_a_queue_of_its_own() -> None:
    own_queue = BatchEngine(Source("a", 3 * capacity(FLAT), timeout=1e9), step_per_slot=FLAT)
    alone = EarlyEngine(batch(load=3.0)).run(TWO_MINUTES).served["batch"]
    assert alone >= 0.98 * own_queue.run(TWO_MINUTES).served["a"]


@pytest.mark.parametrize("weights", [(1.0, 1.0), (3.0, 1.0)])
def test_tenants_share_background_work_by_weight_whatever_else_they_ask(
    weights: tuple[float, float],
) -> None:
    first, second = (
        batch(f"w{index}", load=2.0, weight=weight) for index, weight in enumerate(weights)
    )
    own = Source("w1", 0.4 * capacity(FLAT), weight=weights[1])
    without = played(first, second).served
    assert without["w0"] / without["w1"] == pytest.approx(weights[0] / weights[1], rel=0.1)
    people = played(own).served["w1"]
    both = played(own, first, second).served
    assert both["w0"] / (both["w1"] - people) == pytest.approx(weights[0] / weights[1], rel=0.15)


def test_a_burst_of_interactive_work_gets_every_slot_within_two_steps() -> None:
    engine = BatchEngine(batch(), step_per_slot=FLAT)
    engine.run(20.0)
    assert engine.scheduler.background_in_use == CEILING + spare_slots(CEILING)
    for _ in range(CEILING):
        engine.offer(Source("people", 1.0))
    engine.run(2 * (STEP_S + FLAT * CEILING))
    assert len(engine.report.first_token["people"]) == CEILING
    assert engine.report.lost == CEILING + spare_slots(CEILING)
