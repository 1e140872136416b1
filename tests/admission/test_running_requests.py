import pytest

from service.admission.limiter import Rates, RunningRequests
from tests.admission.tickets import ticket


@pytest.fixture
def rates() -> Rates:
    return Rates()


@pytest.fixture
def runs(rates: Rates) -> RunningRequests:
    return RunningRequests(rates, 0.0)


def test_a_charge_counts_for_the_part_of_its_time_in_which_every_slot_was_taken(
    runs: RunningRequests,
) -> None:
    only = ticket()
    runs.start(only, 10.0)
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
    only = ticket()
    runs.start(only, 10.0)
    runs.tick(0.0, full=full)
    assert runs.charge(only, 2.0) == 12 * full


def test_the_first_tokens_time_the_prompt_and_later_ones_the_decode(
    runs: RunningRequests, rates: Rates
) -> None:
    wide = ticket(prompt=100, slots=2, most=50)
    runs.start(wide, 100.0)
    runs.cache_served(wide, 80)
    runs.tick(1.0, full=False)
    assert runs.time_tokens(wide, 2) is None
    runs.tick(2.0, full=False)
    assert runs.time_tokens(wide, 10) == pytest.approx(1 / 5)
    assert runs.time_tokens(wide, 2) is None  # at the same instant
    runs.tick(3.0, full=False)
    assert runs.time_tokens(wide, 0) is None
    assert runs.output(wide) == 14
    assert rates.prefill_seconds == pytest.approx(1 / 20)
    assert rates.token_seconds == pytest.approx(1 / 5)


def test_slots_come_back_for_the_part_of_the_last_charge(
    runs: RunningRequests, rates: Rates
) -> None:
    wide = ticket(slots=4)
    runs.start(wide, 10.0)
    runs.tick(1.0, full=False)
    runs.tick(2.0, full=True)
    runs.charge(wide, 0.0)
    runs.finish(wide)
    assert rates.releases == 4 / 2


@pytest.mark.parametrize(("most", "seconds"), [(0, 2 / 40), (1, 0.0)])
def test_only_a_prompt_without_an_answer_is_timed_at_its_end(
    runs: RunningRequests, rates: Rates, most: int, seconds: float
) -> None:
    only = ticket(prompt=50, most=most)
    runs.tick(1.0, full=False)
    runs.start(only, 50.0)
    runs.cache_served(only, 10)
    runs.tick(3.0, full=False)
    runs.finish(only)
    assert rates.prefill_seconds == pytest.approx(seconds)


def test_a_ticket_has_its_output_until_it_ends(runs: RunningRequests) -> None:
    background, interactive = ticket(background=True), ticket()
    for each in (background, interactive):
        runs.start(each, 10.0)
        runs.time_tokens(each, 3)
    assert runs.background_output() == {background: 3}
    runs.finish(background)
    assert runs.background_output() == {}
    with pytest.raises(KeyError):
        runs.output(background)
