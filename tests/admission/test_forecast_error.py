"""Ratios of the time that a tenant's requests took to their forecast: quantile and memory."""

import pytest

from service.admission.load_shedding import ForecastError, Stretches


def test_nothing_known_is_no_stretch() -> None:
    assert Stretches().of("a", 0.0) == ForecastError(1.0)


def test_nine_in_ten_were_no_longer() -> None:
    stretches = Stretches()
    for number in range(1, 12):
        stretches.add("a", ForecastError(float(number), answer=2.0), 0.0)
    assert stretches.of("a", 0.0) == ForecastError(10.0, answer=2.0)


def test_ratios_are_forgotten_after_ten_seconds() -> None:
    stretches = Stretches()
    stretches.add("a", ForecastError(3.0), 0.0)
    assert stretches.of("a", 10.0) == ForecastError(3.0)
    assert stretches.of("a", 10.1) == ForecastError(1.0)


def test_only_the_latest_128_are_kept() -> None:
    stretches = Stretches()
    for ratio in (5.0, 2.0):
        for _ in range(128):
            stretches.add("a", ForecastError(ratio), 0.0)
    assert stretches.of("a", 0.0) == ForecastError(2.0)


def test_a_longer_time_lengthens_the_wait_by_as_much() -> None:
    # 1 s of wait and 2 s of answer took 6 s, so the wait was 4 s.
    assert ForecastError(2.0, answer=2.0).wait(1.0) == 4.0


def test_a_shorter_time_shortens_the_wait_alone() -> None:
    assert ForecastError(0.5, answer=2.0).wait(1.0) == pytest.approx(0.5)
