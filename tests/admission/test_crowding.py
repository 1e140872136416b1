"""An engine that is crowded, slow for another reason, or both: in a model of it, in model time."""

import pytest

from service.admission.limiter import Targets
from tests.admission.batch_engine import CEILING, BatchEngine, Report, Source
from tests.admission.test_shares import CAPACITY

BLIND = Targets(token=1e9, engine_wait=1e9)


def test_an_engine_slowed_from_outside_keeps_slots_that_its_tokens_would_not_miss() -> None:
    flood = Source("a", CAPACITY, timeout=300.0)
    engine = BatchEngine(flood, max_wait=1.5, slowness=lambda _: 10.0)
    engine.run(60.0)
    limits = []
    for _ in range(50):
        engine.run(5.0)
        limits.append(engine.scheduler.limit)
    # A token takes 300 ms with one sequence, above its target; with 7 it takes half as long again.
    # Each failed cut is tried again after a while, for some seconds.
    assert sorted(limits)[len(limits) // 4] >= 7


def test_few_requests_at_once_are_not_refused_by_a_slow_engine() -> None:
    few = Source("a", 0.3, longest=20, timeout=600.0)
    engine = BatchEngine(few, max_wait=1.5, floor=4, slowness=lambda now: 8.0 if now > 60 else 1.0)
    assert not engine.run(600.0).refused["a"]


@pytest.mark.parametrize("load", [0.5, 0.9, 2.0])
def test_a_slow_time_is_forgotten_within_seconds(load: float) -> None:
    engine = BatchEngine(
        Source("a", load * CAPACITY), slowness=lambda now: 8.0 if 60 < now < 70 else 1.0
    )
    engine.run(60.0)
    engine.run(10.0)
    engine.run(20.0)
    assert engine.scheduler.limit == CEILING


def test_long_prompts_now_and_then_cost_no_throughput() -> None:
    def prompts(now: float) -> float:
        return 8.0 if now % 30 < 3 else 1.0

    def run(targets: Targets | None) -> Report:
        source = Source("a", 1.5 * CAPACITY)
        return BatchEngine(source, max_wait=5.0, targets=targets, slowness=prompts).run(300.0)

    assert run(None).good_tokens >= 0.95 * run(BLIND).good_tokens


def test_bursts_find_all_of_a_crowded_engine_again() -> None:
    """The engine's memory holds 12 of 32, which only many sequences at once can show."""
    engine = BatchEngine(Source("a", 3 * CAPACITY), knee=12, targets=Targets(token=0.1))
    engine.run(30.0)
    assert engine.scheduler.limit < 20
    engine.pause()
    engine.run(30.0)
    assert engine.scheduler.limit == CEILING
