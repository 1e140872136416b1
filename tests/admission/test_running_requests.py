import pytest

from service.admission.limiter import Rates, RunningRequests
from service.admission.queued_request import Usage
from tests.admission.requests import request


@pytest.fixture
def rates() -> Rates:
    return Rates()


@pytest.fixture
def runs(rates: Rates) -> RunningRequests:
    return RunningRequests(rates, 0.0)


def test_a_charge_counts_for_the_part_of_its_time_in_which_every_slot_was_taken(
    runs: RunningRequests,
) -> None:
    only = request()
    runs.start(only, Usage(10))
    runs.tick(3.0, full=True)
    runs.tick(4.0, full=False)
    assert runs.charge(only, 2.0) == (10 + 2) * 3 / 4
    assert runs.charge(only, 2.0) == 2 * 3 / 4  # at the same instant
    runs.tick(5.0, full=False)
    assert runs.charge(only, 2.0) == 0


@pytest.mark.parametrize("full", [False, True])
def test_a_charge_in_the_instant_of_the_start_counts_if_every_slot_is_taken(
    runs: RunningRequests, full: bool
) -> None:
    only = request()
    runs.start(only, Usage(10))
    runs.tick(0.0, full=full)
    assert runs.charge(only, 2.0) == 12 * full


def test_the_first_tokens_time_the_prompt_and_later_ones_the_decode(
    runs: RunningRequests, rates: Rates
) -> None:
    wide = request(prompt=100, slots=2, most=50)
    usage = Usage(100, cached=80)
    runs.start(wide, usage)

    def time(now: float, tokens: int) -> float | None:
        runs.tick(now, full=False)
        usage.output += tokens
        return runs.time_tokens(wide, tokens)

    assert time(1.0, 2) is None
    assert time(2.0, 10) == pytest.approx(1 / 5)
    assert time(2.0, 2) is None  # at the same instant
    assert time(3.0, 0) is None
    assert rates.prefill_seconds == pytest.approx(1 / 20)
    assert rates.token_seconds == pytest.approx(1 / 5)


def test_slots_come_back_for_the_part_of_the_last_charge(
    runs: RunningRequests, rates: Rates
) -> None:
    wide = request(slots=4)
    runs.start(wide, Usage(10))
    runs.tick(1.0, full=False)
    runs.tick(2.0, full=True)
    runs.charge(wide, 0.0)
    runs.finish(wide)
    assert rates.releases == 4 / 2


@pytest.mark.parametrize(("most", "seconds"), [(0, 2 / 40), (1, 0.0)])
def test_only_a_prompt_without_an_answer_is_timed_at_its_end(
    runs: RunningRequests, rates: Rates, most: int, seconds: float
) -> None:
    only = request(prompt=50, most=most)
    runs.tick(1.0, full=False)
    runs.start(only, Usage(50, cached=10))
    runs.tick(3.0, full=False)
    runs.finish(only)
    assert rates.prefill_seconds == pytest.approx(seconds)
