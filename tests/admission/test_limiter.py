from collections.abc import Callable
from random import Random

import pytest

from service.admission.limiter import Limiter, Targets

TARGETS = Targets(token=0.1, engine_wait=0.5, window=1.0)


def windows(
    limiter: Limiter,
    count: int,
    *,
    token: float,
    in_use: int,
    start: float = 0.0,
    length: float = 1.0,
) -> None:
    """Let windows pass in which every token took as long."""
    limiter.update(start, in_use, crowded=True)
    for number in range(1, count + 1):
        for _ in range(10):
            limiter.record_token_time(token)
        limiter.update(start + number * length, in_use, crowded=True)


def test_it_starts_at_what_the_engine_was_configured_for() -> None:
    assert Limiter(ceiling=64).limit == 64


def test_slow_tokens_lower_it_in_proportion_at_most_by_half() -> None:
    little, much = (Limiter(ceiling=64, targets=TARGETS) for _ in range(2))
    windows(little, 1, token=0.12, in_use=64)
    windows(much, 1, token=10.0, in_use=64)
    assert (little.limit, much.limit) == (57, 32)


def test_a_wait_in_the_engine_lowers_it_too() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    limiter.update(0.0, 64, crowded=True)
    for _ in range(10):
        limiter.record_token_time(0.01)
        limiter.record_engine_wait(0.75)
    limiter.update(1.0, 64, crowded=True)
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


@pytest.mark.parametrize("token", [0.01, 0.1])
def test_below_its_target_it_grows_by_a_step(token: float) -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 1, token=10.0, in_use=32)
    assert limiter.limit == 16
    windows(limiter, 3, token=token, in_use=16, start=10.0)
    assert limiter.limit == 22


def test_at_its_target_it_grows_by_at_least_one_sequence() -> None:
    limiter = Limiter(ceiling=16, targets=TARGETS)
    windows(limiter, 1, token=10.0, in_use=16)
    windows(limiter, 3, token=TARGETS.token, in_use=8, start=10.0)
    assert limiter.limit == 11


def test_after_a_crowd_all_of_it_is_there_again() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 1, token=10.0, in_use=16)
    assert limiter.limit == 8
    limiter.update(1.5, 7, crowded=False)
    assert limiter.limit == 8
    limiter.update(2.0, 7, crowded=False)
    assert limiter.limit == 64


def test_without_a_crowd_slow_tokens_do_not_lower_it() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    for second in range(4):
        for _ in range(10):
            limiter.record_token_time(10.0)
        limiter.update(float(second), 60, crowded=False)
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


def test_a_cut_is_judged_from_a_fifth_fewer_slots_on() -> None:
    limiter = Limiter(ceiling=10, targets=TARGETS)
    windows(limiter, 1, token=0.2, in_use=10)
    windows(limiter, 1, token=0.2, in_use=9, start=1.0)
    assert limiter.limit == 5
    windows(limiter, 1, token=0.2, in_use=8, start=2.0)
    assert limiter.limit == 10


def test_a_cut_that_shortens_the_tokens_by_half_its_proportion_is_enough() -> None:
    limiter = Limiter(ceiling=64)
    windows(limiter, 1, token=0.5, in_use=64)
    windows(limiter, 1, token=0.4375, in_use=48, start=1.0)
    assert limiter.limit == 32


@pytest.mark.parametrize(("token", "limit"), [(0.14, 25), (0.147, 64)])
def test_a_cut_stays_only_with_most_of_the_work(token: float, limit: int) -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 1, token=TARGETS.token, in_use=64)  # work at its target does not count
    windows(limiter, 1, token=0.2, in_use=64, start=1.0)
    windows(limiter, 1, token=token, in_use=32, start=2.0)
    assert limiter.limit == limit


def test_of_two_cuts_only_the_one_that_fails_is_taken_back() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 1, token=0.2, in_use=64)
    windows(limiter, 1, token=0.14, in_use=32, start=1.0)
    assert limiter.limit == 25
    windows(limiter, 1, token=0.139, in_use=25, start=2.0)
    assert limiter.limit == 32


def test_cuts_to_a_floor_that_does_not_help_are_all_taken_back() -> None:
    limiter = Limiter(ceiling=16, floor=8, targets=TARGETS)
    windows(limiter, 1, token=0.2, in_use=16)
    assert limiter.limit == 8
    windows(limiter, 1, token=0.11, in_use=8, start=1.0)
    assert limiter.limit == 16
    windows(limiter, 1, token=0.12, in_use=16, start=2.0)
    assert limiter.limit == 16


@pytest.mark.parametrize("before", ["nothing", "no crowd", "tokens at their target"])
def test_a_cut_is_judged_by_the_work_since_the_tokens_are_slow(before: str) -> None:
    limiter = Limiter(ceiling=4)
    if before == "no crowd":
        limiter.update(0.0, 0, crowded=False)
        limiter.update(1.0, 0, crowded=False)
    elif before == "tokens at their target":
        windows(limiter, 1, token=limiter.targets.token, in_use=4)
    windows(limiter, 1, token=2.0, in_use=4, start=1.0)
    assert limiter.limit == 2
    windows(limiter, 1, token=1.0, in_use=2, start=2.0)
    assert limiter.limit == 1


def test_seven_tenths_of_the_work_are_enough() -> None:
    limiter = Limiter(ceiling=20)
    windows(limiter, 1, token=1.0, in_use=20)
    windows(limiter, 1, token=0.5, in_use=7, start=1.0)
    assert limiter.limit == 3


def test_cuts_come_again_when_the_delay_has_grown_by_more_than_half_or_after_thirty_windows() -> (
    None
):
    limiter = Limiter(ceiling=16, floor=8)
    windows(limiter, 1, token=0.5, in_use=16)
    assert limiter.limit == 8
    windows(limiter, 1, token=0.5, in_use=8, start=1.0)
    windows(limiter, 28, token=0.75, in_use=16, start=2.0)
    assert limiter.limit == 16
    windows(limiter, 1, token=1.0, in_use=16, start=30.0)
    assert limiter.limit == 8
    # Even the floor does not help, and the thirty windows end with this one.
    windows(limiter, 1, token=0.3125, in_use=8, start=31.0)
    assert limiter.limit == 16


def test_a_floor_that_does_not_help_is_left_within_the_first_second_too() -> None:
    limiter = Limiter(ceiling=2, targets=Targets(window=0.25))
    windows(limiter, 1, token=2.0, in_use=2, length=0.25)
    assert limiter.limit == 1
    windows(limiter, 1, token=0.5, in_use=1, start=0.25, length=0.25)
    assert limiter.limit == 2


def cuts(limiter: Limiter, first: int, last: int) -> list[int]:
    """The seconds at whose end the limit is lower, with tokens of twice their target."""
    seconds = []
    for second in range(first, last):
        before = limiter.limit
        windows(limiter, 1, token=0.2, in_use=before, start=float(second))
        if limiter.limit < before:
            seconds.append(second + 1 - first)
    return seconds


def test_trials_become_rarer_until_the_tokens_are_fast_again() -> None:
    limiter = Limiter(ceiling=64, targets=Targets(token=0.1, window=0.5))
    # Each is taken back a second later; the next comes 30 windows after that, then 60, up to 480.
    again = [1, 17, 48, 109, 230, 471, 712]
    assert cuts(limiter, 0, 800) == again
    windows(limiter, 1, token=0.05, in_use=64, start=800.0)
    assert cuts(limiter, 801, 1601) == again


def cut_by_a_quarter() -> Limiter:
    """A limiter of 64 whose limit was just cut to 48 while 64 sequences run."""
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 1, token=0.15, in_use=64)
    assert limiter.limit == 48
    return limiter


def test_while_a_cut_is_carried_out_its_proportion_of_the_slots_given_back_is_kept() -> None:
    limiter = cut_by_a_quarter()
    assert limiter.slots == 64
    slots = []
    for _ in range(8):
        limiter.release(1)
        slots.append(limiter.slots)
    assert slots == [63, 63, 63, 63, 62, 62, 62, 62]
    limiter.release(56)
    assert limiter.slots == 48
    limiter.release(64)
    assert limiter.slots == 48


def test_a_cut_by_half_holds_at_once() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 1, token=0.2, in_use=64)
    assert limiter.slots == limiter.limit == 32


def test_a_cut_by_half_ends_one_that_is_carried_out() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    windows(limiter, 1, token=0.12, in_use=64)
    assert (limiter.slots, limiter.limit) == (64, 57)
    windows(limiter, 1, token=0.4, in_use=57, start=1.0)
    assert limiter.slots == limiter.limit == 28


def test_a_new_ceiling_ends_a_cut_that_is_carried_out() -> None:
    limiter = cut_by_a_quarter()
    limiter.ceiling = 16
    assert limiter.slots == 16


def test_a_cut_with_more_sequences_than_the_ceiling_allows_no_more_than_that() -> None:
    limiter = Limiter(ceiling=16, targets=TARGETS)
    windows(limiter, 1, token=0.15, in_use=32)
    assert limiter.slots == 16


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
    limiter.update(0.0, 16, crowded=True)
    limiter.update(100.0, 16, crowded=True)
    for _ in range(7):
        limiter.record_token_time(9.0)
    limiter.update(200.0, 16, crowded=True)
    assert limiter.limit == 16
    for _ in range(9):
        limiter.record_token_time(0.05)
    limiter.update(300.0, 16, crowded=True)
    assert limiter.limit == 16


def test_eight_samples_are_enough() -> None:
    limiter = Limiter(ceiling=16, targets=TARGETS)
    limiter.update(0.0, 16, crowded=True)
    for _ in range(8):
        limiter.record_token_time(9.0)
    limiter.update(1.0, 16, crowded=True)
    assert limiter.limit == 8


@pytest.mark.parametrize("record", [Limiter.record_token_time, Limiter.record_engine_wait])
def test_only_the_latest_256_samples_of_a_window_count(
    record: Callable[[Limiter, float], None],
) -> None:
    limiter = Limiter(ceiling=16, targets=TARGETS)
    limiter.update(0.0, 16, crowded=True)
    for seconds in [0.01] * 300 + [9.0] * 256:
        record(limiter, seconds)
    limiter.update(1.0, 16, crowded=True)
    assert limiter.limit == 8


def test_a_cut_is_of_the_mean_of_the_slots_in_use() -> None:
    limiter = Limiter(ceiling=64, targets=TARGETS)
    limiter.update(0.0, 64, crowded=True)
    limiter.update(0.5, 32, crowded=True)
    for _ in range(10):
        limiter.record_token_time(9.0)
    limiter.update(2.0, 10, crowded=True)
    assert limiter.limit == (64 * 0.5 + 32 * 1.5) / 2 * 0.5


def test_it_decides_once_a_window() -> None:
    limiter = Limiter(ceiling=16, targets=TARGETS)
    limiter.update(100.0, 16, crowded=True)
    for _ in range(10):
        limiter.record_token_time(9.0)
    limiter.update(100.5, 16, crowded=True)
    limiter.update(100.5, 16, crowded=True)
    assert limiter.limit == 16
    limiter.update(101.0, 16, crowded=True)
    assert limiter.limit < 16


def test_a_floor_above_the_ceiling_counts_as_the_ceiling() -> None:
    assert Limiter(ceiling=1).limit == Limiter(ceiling=64).floor == 1
    assert Limiter(ceiling=2, floor=4).floor == 2
