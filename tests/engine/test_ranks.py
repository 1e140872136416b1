"""The last step of several ranks, by which the watchdog sees a stall of one of them."""

from vllm.config import VllmConfig
from vllm.v1.metrics.loggers import PerEngineStatLoggerAdapter
from vllm.v1.metrics.stats import SchedulerStats

from service.vllm.stat_loggers import StepClock


def logger(clock: StepClock, ranks: int) -> PerEngineStatLoggerAdapter:
    """vLLM's own adapter of a logger for each rank."""
    return PerEngineStatLoggerAdapter(VllmConfig(), list(range(ranks)), clock)


def working(requests: int) -> SchedulerStats:
    return SchedulerStats(num_running_reqs=requests)


def test_a_rank_that_stands_still_with_requests_is_seen_beside_one_that_moves() -> None:
    clock = StepClock()
    steps = logger(clock, 2)
    steps.record(working(1), None, engine_idx=1)
    stopped = clock.last_step
    steps.record(working(1), None, engine_idx=0)
    assert clock.last_step == stopped
    steps.record(None, None, engine_idx=0)
    assert clock.last_step == stopped
    steps.record(working(0), None, engine_idx=1)
    assert clock.last_step > stopped


def test_a_rank_without_requests_makes_no_step() -> None:
    clock = StepClock()
    steps = logger(clock, 2)
    steps.record(working(0), None, engine_idx=1)
    idle = clock.last_step
    steps.record(working(2), None, engine_idx=0)
    assert clock.last_step > idle


def test_one_rank_moves_with_each_step() -> None:
    clock = StepClock()
    steps = logger(clock, 1)
    before = clock.last_step
    steps.record(working(0), None)
    assert clock.last_step > before
