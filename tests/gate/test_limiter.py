from random import Random

import pytest

from service.gate.limiter import Limiter, Targets

TARGETS = Targets(token=0.1, engine_wait=0.5, window=1.0)


def windows(limiter: Limiter, count: int, *, token: float, in_use: int, start: float = 0.0) -> None:
    """Let windows pass in which every token took as long."""
    limiter.update(start, in_use)
    for number in range(1, count + 1):
        for _ in range(10):
            limiter.token_took(token)
        limiter.update(start + number, in_use)


def test_it_starts_at_what_the_engine_was_configured_for() -> None:
    assert Limiter(ceiling=64).limit == 64


def test_slow_tokens_lower_it_in_proportion_at_most_by_half() -> None:
    little, much = (Limiter(ceiling=64, targets=TARGETS) for _ in range(2))
    windows(little, 1, token=0.12, in_use=64)
    windows(much, 1, token=10.0, in_use=64)
    assert (little.limit, much.limit) == (57, 32)


def test_a_wait_in_the_engine_lowers_it_too() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    limiter.update(0.0, 64)
    for _ in range(10):
        limiter.token_took(0.01)
        limiter.engine_waited(0.75)
    limiter.update(1.0, 64)
    assert limiter.limit == 48


def test_it_is_not_lowered_twice_for_what_still_runs_above_it() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 5, token=0.2, in_use=64)
    assert limiter.limit == 32
    windows(limiter, 1, token=0.2, in_use=32, start=10.0)
    windows(limiter, 2, token=0.13, in_use=32, start=11.0)
    assert 16 < limiter.limit < 32


@pytest.mark.parametrize("demand", [6, 32])
def test_tokens_that_are_slow_whatever_runs_do_not_keep_it_at_its_floor(demand: int) -> None:
    limiter, random = Limiter(ceiling=32, floor=4, targets=TARGETS), Random(1)
    limits = []
    for second in range(600):
        # Others have the cores: a step takes as long whatever is cut, and now and then a third.
        token = random.uniform(0.35, 1.05)
        windows(limiter, 1, token=token, in_use=min(demand, limiter.limit), start=float(second))
        limits.append(limiter.limit)
    assert sorted(limits)[120] >= min(demand, 16)


def test_near_its_target_it_grows_by_a_step_and_far_below_by_half() -> None:
    near, far = (Limiter(ceiling=64, targets=TARGETS) for _ in range(2))
    for limiter, token in ((near, 0.09), (far, 0.04)):
        windows(limiter, 1, token=10.0, in_use=32)
        assert limiter.limit == 16
        windows(limiter, 3, token=token, in_use=16, start=10.0)
    assert (near.limit, far.limit) == (22, 54)


def test_after_an_idle_time_all_of_it_is_there_again() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 1, token=10.0, in_use=16)
    assert limiter.limit == 8
    limiter.update(1.5, 0)
    assert limiter.limit == 8
    limiter.update(2.0, 0)
    assert limiter.limit == 64


def test_a_cut_that_does_not_shorten_the_tokens_is_taken_back_and_not_made_again() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 1, token=0.2, in_use=64)
    assert limiter.limit == 32
    windows(limiter, 1, token=0.19, in_use=60, start=1.0)
    assert limiter.limit == 32
    windows(limiter, 1, token=0.18, in_use=32, start=2.0)
    assert limiter.limit == 64
    windows(limiter, 25, token=0.19, in_use=64, start=3.0)
    assert limiter.limit == 64
    windows(limiter, 1, token=0.3, in_use=64, start=30.0)
    assert limiter.limit == 32


def test_a_cut_that_shortens_the_tokens_stays() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 1, token=0.2, in_use=64)
    windows(limiter, 1, token=0.1001, in_use=32, start=1.0)
    assert limiter.limit == 31


def test_trials_become_rarer() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    cuts = []
    for second in range(400):
        before = limiter.limit
        windows(limiter, 1, token=0.2, in_use=before, start=float(second))
        if limiter.limit < before:
            cuts.append(second)
    assert len(cuts) == 4


def test_it_stays_between_floor_and_ceiling() -> None:
    limiter = Limiter(ceiling=16, floor=4, targets=TARGETS)
    windows(limiter, 3, token=10.0, in_use=4)
    assert limiter.limit == 16
    windows(limiter, 1, token=10.0, in_use=5, start=10.0)
    assert limiter.limit == 4
    windows(limiter, 50, token=0.01, in_use=16, start=20.0)
    assert limiter.limit == 16
    limiter.ceiling = 3
    windows(limiter, 3, token=10.0, in_use=3, start=100.0)
    assert limiter.limit == 3


def test_no_news_and_a_few_slow_readers_change_nothing() -> None:
    limiter = Limiter(ceiling=16, targets=TARGETS)
    limiter.update(0.0, 16)
    limiter.update(100.0, 16)
    for _ in range(7):
        limiter.token_took(9.0)
    limiter.update(200.0, 16)
    assert limiter.limit == 16
    for _ in range(9):
        limiter.token_took(0.05)
    limiter.update(300.0, 16)
    assert limiter.limit == 16


def test_it_decides_once_a_window_and_survives_a_clock_that_steps_back() -> None:
    limiter = Limiter(ceiling=16, targets=TARGETS)
    limiter.update(100.0, 16)
    for _ in range(10):
        limiter.token_took(9.0)
    limiter.update(100.5, 16)
    limiter.update(50.0, 16)
    assert limiter.limit == 16
    limiter.update(51.0, 16)
    assert limiter.limit < 16


def test_bounds_and_targets_are_checked() -> None:
    with pytest.raises(ValueError, match="floor and ceiling must be at least 1, got 0 and 4"):
        Limiter(ceiling=4, floor=0)
    with pytest.raises(ValueError, match="targets must be positive"):
        Targets(token=0.0)
