import math

import pytest

from service.admission.limiter import DecayedRatio, Rates


def test_a_ratio_has_no_start_up_bias() -> None:
    ratio = DecayedRatio(span=10)
    assert ratio.value is None
    ratio.add(6.0, 2.0, age=2.0)
    assert ratio.value == pytest.approx(3.0)


def test_a_ratio_follows_a_change_within_a_few_spans() -> None:
    ratio = DecayedRatio(span=10)
    for _ in range(100):
        ratio.add(5.0, 1.0, age=1.0)
    for _ in range(30):
        ratio.add(1.0, 1.0, age=1.0)
    assert ratio.value == pytest.approx(1.0, abs=0.25)


def test_service_and_releases_are_per_second_of_a_full_engine() -> None:
    rates = Rates()
    assert rates.service is None
    for _ in range(20):
        rates.pass_time(0.5)
        rates.count_service(50.0)
        rates.count_release(2)
    assert rates.service == pytest.approx(100.0, rel=0.05)
    assert rates.releases == pytest.approx(4.0, rel=0.05)


def test_a_stall_slows_the_forecast_and_a_sleep_does_not_stop_it() -> None:
    rates = Rates()
    for _ in range(20):
        rates.pass_time(0.5)
        rates.count_service(50.0)
    rates.pass_time(3600.0)
    assert rates.service == pytest.approx(100 * 0.24, rel=0.2)


def test_prefill_and_decode_are_unknown_until_measured() -> None:
    rates = Rates()
    assert (rates.prefill_seconds, rates.token_seconds) == (0.0, 0.0)
    rates.count_prefill(tokens=0, seconds=1.0)
    assert rates.prefill_seconds == 0.0
    rates.count_prefill(tokens=1, seconds=0.5)
    assert rates.prefill_seconds == 0.5
    rates = Rates()
    rates.count_prefill(tokens=100, seconds=0.5)
    rates.count_decode(tokens=4, seconds=0.2)
    assert rates.prefill_seconds == pytest.approx(0.005)
    assert rates.token_seconds == pytest.approx(0.05)


def test_a_sample_64_before_weighs_one_part_in_e() -> None:
    rates = Rates()
    rates.count_prefill(tokens=1, seconds=1.0)
    rates.count_decode(tokens=1, seconds=1.0)
    for _ in range(64):
        rates.count_prefill(tokens=1, seconds=0.0)
        rates.count_decode(tokens=1, seconds=0.0)
    others = sum(math.exp(-age / 64) for age in range(64))
    once = math.exp(-1) / (math.exp(-1) + others)
    assert (rates.prefill_seconds, rates.token_seconds) == pytest.approx((once, once))
