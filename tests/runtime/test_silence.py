"""Slow engines and stuck ones, with a clock and vitals set by hand."""

from functools import partial

import pytest

from service.engine.contract import Vitals
from service.runtime.watchdog import Silence

BUSY = 0.5
"""CPU seconds a second: half a core, on a machine that others use."""


class Watched:
    """An engine that is examined four times a second until it is found stuck."""

    def __init__(self, floor: float = 6.0, ceiling: float = 60.0) -> None:
        self.silence = Silence(floor, ceiling)
        self.now = self.moved = 1000.0
        self.cpu = 7.0

    def silent(
        self, seconds: float, cpu: float = 0.0, *, told: bool = True, **signs: bool
    ) -> float | None:
        """Seconds until the engine is found stuck; None if it is not."""
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            self.cpu += cpu / 4
            seen = partial(Vitals, self.cpu, **signs) if told else lambda: None
            if self.silence.too_long(self.now, self.moved, seen):
                return self.now - self.moved
        return None

    def step(self) -> None:
        self.moved = self.now


def test_an_engine_without_any_sign_of_life_is_stuck_after_the_floor() -> None:
    assert Watched().silent(20) == 6
    assert Watched().silent(20, told=False) == 6


def test_a_step_of_twelve_seconds_on_a_crowded_machine_is_no_stall() -> None:
    engine = Watched()
    for _ in range(10):
        assert engine.silent(12, BUSY) is None
        engine.step()


def test_an_engine_that_gets_a_hundredth_of_a_core_is_slow() -> None:
    assert Watched().silent(50, 0.01) is None


def test_an_engine_that_computes_for_ever_is_stuck_at_the_ceiling() -> None:
    assert Watched().silent(100, 2.0) == 60


def test_an_engine_that_stops_in_the_middle_of_a_slow_step_is_found_by_its_last_sign() -> None:
    engine = Watched()
    assert engine.silent(20, BUSY) is None
    assert engine.silent(20, stopped=True) == pytest.approx(26, abs=0.5)


def test_long_steps_of_late_give_a_silent_engine_more_time_but_not_a_stopped_one() -> None:
    engine = Watched()
    engine.silent(5)
    engine.step()
    assert engine.silent(19) is None
    engine.step()
    assert engine.silent(20, stopped=True) == 6


def test_long_steps_are_forgotten_after_a_minute() -> None:
    engine = Watched()
    engine.silent(5)
    engine.step()
    for _ in range(61):
        engine.silent(1)
        engine.step()
    assert engine.silent(20) == 6


def test_loading_an_adapter_is_no_stall_for_ten_minutes() -> None:
    assert Watched().silent(590, loading=True) is None
    assert Watched().silent(700, loading=True) == 600
    assert Watched().silent(100, loading=True, stopped=True) == 6


def test_after_a_load_a_step_may_take_as_long_as_ever() -> None:
    engine = Watched()
    assert engine.silent(100, loading=True) is None
    assert engine.silent(100, BUSY) == pytest.approx(160, abs=0.5)


def test_the_time_of_a_stall_is_no_step() -> None:
    engine = Watched()
    assert engine.silent(20) == 6
    engine.silence.forget()
    engine.now += 30
    engine.step()
    assert engine.silent(20) == 6
