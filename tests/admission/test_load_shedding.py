"""Load shedding, with rates set by hand: 100 cost units and 2 slots a second, 0.1 s a token."""

import math

import pytest

from service.admission.limiter import Rates
from service.admission.load_shedding import Forecast, LoadShedder, Refusal
from service.admission.queued_request import Backlog
from service.errors import QueueFull, TooManyRequests
from tests.admission.requests import request

NOW = 100.0
NOTHING = Backlog(own_requests=0, own_cost=0, all_requests=0, all_cost=0, share=1, due=1, others=0)


def measured() -> Rates:
    rates = Rates()
    rates.pass_time(1.0)
    rates.count_service(100.0)
    rates.count_release(2)
    rates.count_prefill(tokens=100, seconds=1.0)
    rates.count_decode(tokens=10, seconds=1.0)
    return rates


def shedder(*lengths: int, rates: Rates | None = None, max_waiting: int = 1000) -> LoadShedder:
    made = LoadShedder(rates or measured(), max_waiting)
    for length in lengths:
        made.lengths.add(request(most=1000), length, late=False)
    return made


def backlog(own: float, others: float, share: float, waiting_tenants: int = 1) -> Backlog:
    """A request for each 10 units of cost; only waiting tenants are active."""
    total = own + others
    return Backlog(
        own_requests=round(own / 10),
        own_cost=own,
        all_requests=round(total / 10),
        all_cost=total,
        share=share,
        due=share,
        others=waiting_tenants if others else 0,
    )


def decide(
    made: LoadShedder,
    seen: Backlog,
    deadline: float,
    most: int = 1000,
    prompt: int = 10,
    max_wait: float = math.inf,
    followers: int = 0,
) -> Refusal | None:
    asked = request(
        prompt=prompt, most=most, deadline=NOW + deadline, max_wait=max_wait, followers=followers
    )
    return made.refusal(asked, seen, made.forecast(asked, seen), now=NOW)


def test_a_forecast_adds_wait_prefill_and_decode() -> None:
    asked = request(prompt=50, most=1000)
    forecast = shedder(20).forecast(asked, backlog(own=100, others=900, share=0.5))
    # 100 at half the rate, then the next slot; 50 prompt tokens; 20 output tokens.
    assert forecast.wait == pytest.approx(100 / 50 + 1 / 2)
    assert forecast.prefill == pytest.approx(0.5)
    assert forecast.decode == pytest.approx(2.0)
    assert forecast.total == pytest.approx(5.0)


def test_a_tenant_waits_no_longer_than_the_whole_backlog() -> None:
    forecast = shedder().forecast(request(), backlog(own=90, others=10, share=0.1))
    assert forecast.wait == pytest.approx(100 / 100 + 1 / 2)


def test_each_other_tenant_that_waits_may_have_a_turn_before() -> None:
    seen = backlog(own=0, others=900, share=0.1, waiting_tenants=9)
    assert shedder().forecast(request(), seen).wait == pytest.approx(9 / 2)


def test_the_expected_cost_follows_the_latest_answers() -> None:
    assert shedder(20).expected_cost(request(prompt=7, most=1000, slots=3)) == 7 + 2 * 60


def test_what_was_not_measured_refuses_nothing() -> None:
    assert decide(shedder(rates=Rates()), backlog(900, 0, 1.0), deadline=0.1) is None


def test_it_waits_while_that_leaves_time_for_the_answer() -> None:
    made = shedder(20)
    seen = backlog(own=100, others=0, share=1.0)
    # 1.5 s of waiting, 0.1 s of prefill, 2 s of output.
    assert decide(made, seen, deadline=3.7) is None
    refusal = decide(made, seen, deadline=3.5)
    assert refusal is not None
    assert refusal.message == (
        "The request would wait 1.5 s for its turn and may wait 1.4 s (its deadline is in 3.5 s). "
        "Try again later."
    )


def test_a_request_without_a_chance_does_not_wait_and_is_nobodys_excess() -> None:
    refusal = decide(shedder(20), NOTHING, deadline=1.9)
    assert refusal is not None
    assert isinstance(refusal, QueueFull)


def test_waiting_may_cost_a_twentieth_of_the_chance() -> None:
    made = shedder(*range(1, 41))
    # Up to 40 tokens fit into 4.1 s; 38 of them leave 0.2 s, but the next slot takes 0.5 s.
    assert decide(made, NOTHING, deadline=4.1) is not None
    assert decide(made, NOTHING, deadline=4.5) is None


def test_no_deadline_waits_for_ever_unless_a_longest_wait_is_set() -> None:
    long = backlog(own=900, others=0, share=1.0)
    assert decide(shedder(20), long, deadline=math.inf) is None
    assert decide(shedder(20), long, deadline=math.inf, max_wait=5.0) is not None
    assert decide(shedder(20), long, deadline=math.inf, max_wait=10.0) is None


def test_a_gateways_time_to_the_first_token_is_wait_and_prefill() -> None:
    made, seen = shedder(20), backlog(own=100, others=0, share=1.0)
    asked = request(prompt=50)
    forecast = made.forecast(asked, seen)  # 1.5 s of waiting, 0.5 s of prefill
    for seconds, refused in ((2.1, False), (1.9, True)):
        asked.first_token_within = seconds
        assert (made.refusal(asked, seen, forecast, now=NOW) is not None) is refused


def test_the_first_of_many_requests_is_judged_by_when_the_last_would_be_answered() -> None:
    made = shedder(20)
    # One costs 10 + 2 * 20: nine more take 4.5 s at the whole rate, 9 s at half of it.
    assert decide(made, NOTHING, deadline=7.0, followers=9) is not None
    assert decide(made, NOTHING, deadline=7.2, followers=9) is None
    half = backlog(own=0, others=10, share=0.5)
    assert decide(made, half, deadline=11.5, followers=9) is not None
    assert decide(made, half, deadline=11.7, followers=9) is None
    # The longest wait is for its first token.
    assert decide(made, NOTHING, deadline=60.0, max_wait=1.0, followers=9) is None


def test_forecasts_are_stretched_by_how_wrong_the_latest_were() -> None:
    made = shedder(20)
    seen = backlog(own=100, others=0, share=1.0)
    for _ in range(10):
        made.record_wait(
            request(), Forecast(wait=1.5, prefill=0.1, decode=2.0), seconds=5.1, now=NOW
        )
    # Twice the time in all: 7.2 s, 5.1 s of it waiting.
    assert decide(made, seen, deadline=7.1) is not None
    assert decide(made, seen, deadline=7.3) is None


def test_waits_shorter_than_forecast_shorten_the_wait_alone() -> None:
    made = shedder(20)
    seen = backlog(own=100, others=0, share=1.0)
    for _ in range(10):
        made.record_wait(
            request(), Forecast(wait=1.5, prefill=0.1, decode=2.0), seconds=0.6, now=NOW
        )
    # Three quarters of the time in all: of the wait 1.1 s are left, beside 2.1 s.
    assert decide(made, seen, deadline=3.2) is not None
    assert decide(made, seen, deadline=3.3) is None


def test_a_stretched_wait_is_as_long_for_the_smallest_request() -> None:
    # Else the look before the prompt is tokenised lets pass what is refused after it.
    made = shedder(20)
    for _ in range(10):
        made.record_wait(
            request(), Forecast(wait=0.5, prefill=0.1, decode=2.0), seconds=1.6, now=NOW
        )
    for prompt, most in ((0, 1), (10, 1000), (100, 1000)):
        refusal = decide(made, NOTHING, deadline=60.0, max_wait=1.5, prompt=prompt, most=most)
        assert refusal is not None
        assert refusal.retry_after == pytest.approx(1.6)


def test_what_one_tenant_suffered_does_not_stretch_the_forecast_of_another() -> None:
    made = shedder(20)
    seen = backlog(own=100, others=0, share=1.0)
    flood = request("flood")
    for _ in range(10):
        made.record_wait(flood, Forecast(wait=1.5, prefill=0.1, decode=2.0), seconds=60.0, now=NOW)
    assert decide(made, seen, deadline=3.7) is None


def test_a_stretch_from_no_forecast_is_not_learnt() -> None:
    made = shedder(20)
    made.record_wait(request(), Forecast(wait=0.0, prefill=0.01, decode=0.0), 9.0, now=NOW)
    assert decide(made, backlog(own=100, others=0, share=1.0), deadline=3.7) is None


def test_a_stall_is_forgotten_even_if_nothing_has_waited_since() -> None:
    made = shedder(20)
    made.record_wait(
        request(), Forecast(wait=0.5, prefill=0.1, decode=2.0), seconds=60.0, now=NOW - 9
    )
    seen = backlog(own=100, others=0, share=1.0)
    assert decide(made, seen, deadline=10.0) is not None
    forgetful = shedder(20)
    forgetful.record_wait(
        request(), Forecast(wait=0.5, prefill=0.1, decode=2.0), seconds=60.0, now=NOW - 11
    )
    assert decide(forgetful, seen, deadline=10.0) is None


@pytest.mark.parametrize(
    ("own", "others", "share", "kind", "named"),
    [
        (1000, 100, 0.5, TooManyRequests, (429, "over_share")),
        (100, 1000, 0.5, QueueFull, (503, "queue_full")),
        (1000, 0, 1.0, QueueFull, (503, "queue_full")),
        (500, 500, 0.5, QueueFull, (503, "queue_full")),
        (500, 500, 0.4, TooManyRequests, (429, "over_share")),
    ],
)
def test_more_than_its_share_of_what_waits_is_a_tenants_own_excess(
    own: float, others: float, share: float, kind: type[Refusal], named: tuple[int, str]
) -> None:
    refusal = decide(shedder(20), backlog(own, others, share), deadline=3.0)
    assert isinstance(refusal, kind)
    assert (refusal.status, refusal.code) == named


@pytest.mark.parametrize(("own", "seconds"), [(10, 1.0), (1000, 10.5), (100_000, 60.0)])
def test_retry_after_is_the_predicted_wait_within_bounds(own: float, seconds: float) -> None:
    made = shedder(20, max_waiting=100_000)
    refusal = decide(made, backlog(own, 0, 1.0), deadline=0.5)
    assert refusal is not None
    assert refusal.retry_after == pytest.approx(seconds)


def test_a_full_queue_refuses_whatever_the_deadline() -> None:
    made = shedder(max_waiting=100)
    refusal = decide(made, backlog(own=1000, others=0, share=1.0), deadline=math.inf)
    assert refusal is not None
    assert refusal.message == (
        "The queue has no place for this request: 100 wait, 100 of them yours. Its limit is 100, "
        "and some places are kept for other callers. Try again later."
    )


def test_one_tenant_leaves_places_for_a_newcomer() -> None:
    made = shedder(max_waiting=90)
    # Eight times the free places: 80 of 90 is the most for one alone.
    assert decide(made, backlog(790, 0, 1.0), deadline=math.inf) is None
    assert decide(made, backlog(800, 0, 1.0), deadline=math.inf) is not None
    assert decide(made, backlog(0, 800, 0.5), deadline=math.inf) is None


def test_without_places_nothing_waits() -> None:
    assert decide(shedder(max_waiting=0), NOTHING, deadline=math.inf) is not None
