import functools
import math

import pytest

from service.admission.limiter import Limiter, Targets
from service.admission.load_shedding import Refusal
from service.admission.queued_request import Usage
from service.admission.scheduler import Placement, Scheduler
from tests.admission.requests import request
from tests.admission.test_limiter import windows


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def scheduler(clock: Clock, slots: int = 2, max_waiting: int = 100) -> Scheduler:
    return Scheduler(clock, Limiter(slots), max_waiting=max_waiting)


def test_a_request_starts_waits_or_is_refused(clock: Clock) -> None:
    core = scheduler(clock, slots=1, max_waiting=1)
    first, second, third = request(), request(), request()
    assert core.offer(first) is Placement.STARTED
    assert core.offer(second) is Placement.QUEUED
    assert isinstance(core.offer(third), Refusal)
    assert (core.in_use, core.waiting) == (1, 1)
    core.charge(first, cached=4, output=3)
    assert core.finish(first) == Usage(prompt=10, cached=4, output=3)
    assert core.next_dispatches() == [second]
    core.finish(second)
    assert (core.in_use, core.waiting, core.tenants) == (0, 0, 0)


def test_a_full_queue_refuses_even_who_would_be_the_first_to_wait(clock: Clock) -> None:
    core = scheduler(clock, slots=1, max_waiting=0)
    assert core.offer(request()) is Placement.STARTED
    assert isinstance(core.refusal(request()), Refusal)
    assert isinstance(core.offer(request()), Refusal)


def test_a_full_queue_refuses_nobody_while_a_slot_is_free(clock: Clock) -> None:
    core = scheduler(clock, slots=1, max_waiting=1)
    first, second, third = request(), request(), request()
    core.offer(first)
    core.offer(second)
    core.finish(first)
    assert core.refusal(third) is None
    assert core.offer(third) is Placement.QUEUED
    assert core.next_dispatches() == [second]


def test_with_a_slot_free_the_shortest_deadline_is_not_refused(clock: Clock) -> None:
    core = scheduler(clock, slots=1, max_waiting=0)
    assert core.offer(request(deadline=1e-6)) is Placement.STARTED


def test_a_request_that_follows_an_admitted_one_is_not_refused(clock: Clock) -> None:
    core = scheduler(clock, slots=1, max_waiting=1)
    first, rest = request(followers=4), [request(follows=True) for _ in range(4)]
    assert core.offer(first) is Placement.STARTED
    assert [core.offer(each) for each in rest] == [Placement.QUEUED] * 4
    assert isinstance(core.offer(request()), Refusal)


def test_whoever_waits_comes_before_a_newcomer(clock: Clock) -> None:
    core = scheduler(clock, slots=1)
    first, second, newcomer = request(), request(), request("new")
    core.offer(first)
    core.offer(second)
    core.finish(first)
    assert core.offer(newcomer) is Placement.QUEUED
    assert core.next_dispatches() == [second]


def test_a_waiting_request_can_be_cancelled_a_running_one_is_finished(clock: Clock) -> None:
    core = scheduler(clock, slots=1)
    first, second = request(), request()
    core.offer(first)
    core.offer(second)
    assert core.cancel(second)
    assert not core.cancel(second)
    assert not core.cancel(first)
    assert core.finish(first) == Usage(prompt=10)
    assert core.next_dispatches() == []
    assert not core._waits
    with pytest.raises(KeyError):
        core.finish(first)


def test_late_requests_are_named_once_and_never_started(clock: Clock) -> None:
    core = scheduler(clock, slots=1)
    runs, waits, patient = request(deadline=5.0), request(deadline=4.0), request()
    for each in (runs, waits, patient):
        core.offer(each)
    assert core.next_deadline() == 4.0
    assert core.expire() == []
    clock.now = 5.0
    core.next_dispatches()
    assert core.expire() == [waits, runs]
    assert core.expire() == []
    assert core.next_deadline() is None
    assert (core.in_use, core.waiting) == (1, 1)
    core.finish(runs)
    assert core.next_dispatches() == [patient]


def test_a_request_that_is_late_already_is_named_and_not_started(clock: Clock) -> None:
    core = scheduler(clock)
    clock.now = 9.0
    late = request(deadline=9.0)
    assert core.offer(late) is Placement.QUEUED
    assert core.next_dispatches() == []
    assert core.expire() == [late]


def test_an_ended_request_has_no_deadline(clock: Clock) -> None:
    core = scheduler(clock, slots=1)
    done, left = request(deadline=5.0), request(deadline=6.0)
    core.offer(done)
    core.offer(left)
    core.cancel(left)
    core.finish(done)
    assert core.next_deadline() is None


def give_slots_back_every_second(core: Scheduler, clock: Clock) -> None:
    for _ in range(20):
        each = request(most=0)
        core.offer(each)
        clock.now += 1.0
        core.finish(each)


@pytest.mark.parametrize("deadline", [math.inf, 25.0])
def test_a_wait_longer_than_forecast_stretches_the_next_forecast(
    clock: Clock, deadline: float
) -> None:
    core = scheduler(clock, slots=1)
    give_slots_back_every_second(core, clock)
    holds, waits = request(), request(deadline=clock.now + deadline)
    core.offer(holds)
    assert core.offer(waits) is Placement.QUEUED
    assert core.refusal(request(max_wait=15.0)) is None
    clock.now += 30.0
    core.finish(holds)
    core.next_dispatches()
    core.offer(request())
    assert isinstance(core.refusal(request(max_wait=15.0)), Refusal)


def test_a_wait_shorter_than_forecast_shortens_the_next_forecast(clock: Clock) -> None:
    core = scheduler(clock, slots=1)
    give_slots_back_every_second(core, clock)
    holds, waits = request(), request()
    core.offer(holds)
    assert isinstance(core.refusal(request(max_wait=0.75)), Refusal)  # than the second of a slot
    core.offer(waits)
    core.finish(holds)
    assert core.next_dispatches() == [waits]
    assert core.refusal(request(max_wait=0.75)) is None


@pytest.mark.parametrize(
    ("deadline", "end", "most", "needed"),
    [(5.0, 5.0, 30, 30), (5.0, 4.0, 30, 20), (math.inf, 5.0, 30, 20)],
)
def test_an_answer_that_its_deadline_cut_short_needed_more(
    clock: Clock, deadline: float, end: float, most: int, needed: float
) -> None:
    core = scheduler(clock)
    cut = request(deadline=deadline, most=1000)
    core.offer(cut)
    core.charge(cut, cached=0, output=20)
    clock.now = end
    core.expire()
    core.finish(cut)
    assert core._shedder.lengths.needed(request(most=most), math.inf) == needed


def test_answers_of_background_work_say_nothing_of_interactive_ones(clock: Clock) -> None:
    core = scheduler(clock)
    background = request(background=True, most=1000)
    core.offer(background)
    core.charge(background, cached=0, output=20)
    core.finish(background)
    assert core._shedder.lengths.expected(request(most=1000)) == 0


def test_rates_are_measured_only_while_every_slot_is_taken(clock: Clock) -> None:
    core = scheduler(clock, slots=2)
    first, second = request(), request(prompt=0)
    core.offer(first)
    clock.now = 100.0
    core.charge(first, output=1)
    assert core.rates.service is None
    core.offer(second)
    for second_passed in range(1, 5):
        clock.now = 100.0 + second_passed
        core.charge(first, output=1 + 3 * second_passed)
        core.charge(second, output=2 * second_passed)
    assert core.rates.service == pytest.approx(2 * (3 + 2), rel=0.2)
    core.finish(second)
    assert core.rates.releases == pytest.approx(1 / 4, rel=0.3)


def test_what_an_engine_with_free_slots_makes_of_a_request_that_ran_in_a_full_one_is_no_rate(
    clock: Clock,
) -> None:
    core = scheduler(clock, slots=2)
    first, second = request(most=500), request()
    core.offer(first)
    core.offer(second)
    clock.now = 1.0
    core.charge(first, cached=0, output=1)
    core.finish(second)
    service = core.rates.service
    clock.now = 9.0
    core.charge(first, output=300)
    assert core.rates.service == service


def test_tokens_at_their_target_tell_of_a_healthy_engine_beside_background_work_too(
    clock: Clock,
) -> None:
    limiter = Limiter(8, targets=Targets(token=0.25))
    windows(limiter, 1, token=10.0, in_use=8)
    core = Scheduler(clock, limiter, max_waiting=9)
    clock.now = 1.0
    people = [request(most=1000) for _ in range(3)]
    for each in (request(background=True), *people):
        assert core.offer(each) is Placement.STARTED
    for _ in range(6):  # a crowd
        assert core.offer(request()) is Placement.QUEUED
    for step in range(9):
        clock.now = 1.0 + step / 2
        for each in people:
            core.charge(each, cached=0, output=1 + 2 * step)
    assert core.rates.token_seconds == limiter.targets.token
    core.next_dispatches()
    assert core.limit == 5


def test_an_engine_at_its_target_is_not_slow(clock: Clock) -> None:
    core = Scheduler(clock, Limiter(8, targets=Targets(token=0.25)), max_waiting=9)
    only = request(most=1000)
    core.offer(only)
    for output, background in ((1, 6), (2, 6), (3, 0)):
        core.charge(only, cached=0, output=output)
        assert core.background_room() == background
        clock.now += 0.25 * output


@pytest.mark.parametrize("most", [1, 8])
def test_a_batch_that_ends_together_counts_whole(clock: Clock, most: int) -> None:
    core = scheduler(clock, slots=32)
    for _ in range(20):
        batch = [request(prompt=100, most=most) for _ in range(32)]
        for each in batch:
            core.offer(each)
        for token in range(1, most + 1):
            clock.now += 0.1 / most
            for each in batch:
                core.charge(each, output=token)
                if token == most:
                    core.finish(each)
    assert core.rates.releases == pytest.approx(320, rel=0.05)
    assert core.rates.service == pytest.approx(320 * (100 + 2 * most), rel=0.05)


def test_an_engine_that_has_just_become_full_gives_slots_back_as_before(clock: Clock) -> None:
    core = scheduler(clock, slots=9)
    done = {request(most=80): 10 * index for index in range(8)}
    for each in done:
        core.offer(each)

    def offer() -> None:
        if core.offer(new := request(most=80)) is Placement.STARTED:
            done[new] = 0

    for step in range(230):  # one ends each second, and another comes
        clock.now += 0.1
        if step == 200:
            for _ in range(5):
                offer()
        for each in list(done):
            done[each] += 1
            core.charge(each, output=done[each])
            if done[each] == 80:
                core.finish(each)
                del done[each]
                offer()
                done |= dict.fromkeys(core.next_dispatches(), 0)
    assert core.rates.releases == pytest.approx(1, rel=0.4)


def test_prompts_of_those_that_waited_are_part_of_the_service(clock: Clock) -> None:
    core = scheduler(clock, slots=1)
    line = [request(prompt=50, most=0) for _ in range(5)]
    for each in line:
        core.offer(each)
    for each in line[:4]:
        clock.now += 1.0
        core.finish(each)
        core.next_dispatches()
    assert core.rates.service == pytest.approx(50, rel=0.1)
    assert core.rates.prefill_seconds == pytest.approx(1 / 50)


def test_a_prompt_without_an_answer_is_timed_to_its_end(clock: Clock) -> None:
    core = scheduler(clock, slots=1)
    only = request(prompt=50, most=0)
    core.offer(only)
    clock.now = 0.5
    core.charge(only, cached=40)
    core.finish(only)
    assert core.rates.prefill_seconds == pytest.approx(0.05)
    assert core.rates.service == pytest.approx((50 - 0.9 * 40) / 0.5)


def test_a_report_that_is_repeated_or_late_times_nothing(clock: Clock) -> None:
    core = scheduler(clock)
    only = request(most=50)
    core.offer(only)
    core.charge(only, prompt=12, cached=0, output=1)
    clock.now = 1.0
    core.charge(only, prompt=12, output=2)
    core.charge(only, prompt=12, output=4)  # at the same instant
    clock.now = 3.0
    for output in (0, 3, 4):
        core.charge(only, prompt=12, output=output)
    assert core.rates.token_seconds == 1.0
    assert core.finish(only) == Usage(prompt=12, output=4)


@pytest.mark.parametrize("background", [False, True])
def test_both_classes_have_the_same_prices(clock: Clock, background: bool) -> None:
    core = Scheduler(clock, Limiter(2), max_waiting=9)
    answers = request(prompt=0, most=50, background=background)
    for each in (answers, request(prompt=0)):
        assert core.offer(each) is Placement.STARTED
    clock.now = 1.0
    core.charge(answers, cached=0, output=1)
    assert core.rates.service == pytest.approx(2.0)


def test_work_before_admission_is_debited_at_the_price_of_a_prompt(clock: Clock) -> None:
    core = Scheduler(clock, Limiter(1), max_waiting=9)
    running = request("a")
    core.offer(running)
    line = [request("b"), request("c"), request("c"), request("d", weight=4.0)]
    for each in line[:3]:
        core.offer(each)
    core.debit("b", 1.0, 15)
    core.debit("d", 4.0, 50)
    core.offer(line[3])
    order = []
    for _ in line:
        core.finish(running)
        (running,) = core.next_dispatches()
        order.append(running.tenant)
    assert order == ["c", "c", "d", "b"]


def test_interactive_tokens_are_charged_once(clock: Clock) -> None:
    core = scheduler(clock)
    first, second = request("a", most=50), request("b", most=50)
    waits = [request("a"), request("b")]
    for each in (first, second, *waits):
        core.offer(each)
    core.charge(first, cached=0, output=10)
    core.charge(first, cached=10, output=10)
    core.charge(second, cached=0, output=6)
    core.finish(first)
    core.finish(second)
    assert core.next_dispatches() == waits  # a owes 2 * 10 - 0.9 * 10 more, b 2 * 6


def test_an_engine_that_rests_has_its_whole_limit_again(clock: Clock) -> None:
    limiter = Limiter(8, targets=Targets(token=0.1))
    windows(limiter, 1, token=10.0, in_use=8)
    assert limiter.limit == 4
    core = Scheduler(clock, limiter, max_waiting=9)
    clock.now = 2.5
    core.offer(request())
    assert core.limit == 8


def test_who_is_below_its_share_starts_above_a_limit_that_was_lowered(clock: Clock) -> None:
    limiter = Limiter(4, targets=Targets(token=0.1))
    core = Scheduler(clock, limiter, max_waiting=9)
    heavy = [request("heavy") for _ in range(5)]
    for each in heavy:
        core.offer(each)
    windows(limiter, 1, token=10.0, in_use=4)
    assert core.limit == 2
    light = request("light")
    core.offer(light)
    core.finish(heavy[0])
    assert core.next_dispatches() == [light]


def test_a_slow_engine_gets_fewer_sequences_and_then_more_again(clock: Clock) -> None:
    limiter = Limiter(8, floor=2, targets=Targets(token=0.1, engine_wait=0.5, window=1.0))
    core = Scheduler(clock, limiter, max_waiting=100)
    line = [request(most=1000) for _ in range(14)]
    for each in line:
        core.offer(each)
    for each in line[:8]:
        core.charge(each, cached=0, output=1, engine_wait=5.0)
    core.next_dispatches()
    clock.now = 1.0
    assert core.next_dispatches() == []
    assert core.limit == 4
    for each in line[:4]:
        core.finish(each)
    assert core.next_dispatches() == []
    for step in range(1, 5):
        clock.now = 1.0 + step / 4
        for each in line[4:8]:
            core.charge(each, output=1 + 3 * step)
    assert core.next_dispatches() == [line[8]]
    assert core.limit == 5


def test_a_step_charged_at_once_is_charged_as_its_requests_one_by_one(clock: Clock) -> None:
    steps, singly = scheduler(clock, slots=3), scheduler(clock, slots=3)
    requests = [
        request(name, weight=weight) for name, weight in (("a", 1.0), ("b", 3.0), ("a", 1.0))
    ]
    for core in (steps, singly):
        assert [core.offer(each) for each in requests] == [Placement.STARTED] * 3
        for each in requests:
            core.charge(each, cached=2, output=1)
        waits = [core.offer(request(name)) for name in "ba"]
        assert waits == [Placement.QUEUED] * 2
    totals = [1, 1, 1]
    for made in ([1, 1, 1], [2, 0, 5], [0, 4, 1]):
        clock.now += 0.1
        totals = [total + new for total, new in zip(totals, made, strict=True)]
        steps.charge_step((each, new) for each, new in zip(requests, made, strict=True) if new)
        for each, new, total in zip(requests, made, totals, strict=True):
            if new:
                singly.charge(each, cached=2, output=total)
    clock.now += 0.1
    assert [steps.finish(each) for each in requests] == [singly.finish(each) for each in requests]
    for name in ("service", "releases", "token_seconds", "prefill_seconds"):
        assert getattr(steps.rates, name) == pytest.approx(getattr(singly.rates, name))
    assert [each.tenant for each in steps.next_dispatches()] == ["b", "a"]
    assert [each.tenant for each in singly.next_dispatches()] == ["b", "a"]


def test_as_many_clients_as_the_engine_has_slots_never_wait(clock: Clock) -> None:
    limiter = Limiter(4, 2, Targets(token=0.1, window=1.0))
    core = Scheduler(clock, limiter, max_waiting=100)
    impatient = functools.partial(request, most=100, max_wait=0.001)
    running = [impatient() for _ in range(4)]
    for each in running:
        core.offer(each)

    def pass_seconds(count: int) -> None:
        for _ in range(count):
            clock.now += 1.0
            for each in running:
                core.charge(each, output=int(clock.now))
            core.next_dispatches()

    pass_seconds(8)  # slow tokens, but they are no crowd
    core.finish(running.pop())
    running.append(impatient())
    assert core.offer(running[-1]) is Placement.STARTED
    # One client more is a crowd: the limit follows the tokens while requests are refused.
    pass_seconds(1)
    assert isinstance(core.offer(impatient()), Refusal)
    pass_seconds(2)
    assert core.limit == 2
    core.finish(running.pop())
    assert isinstance(core.offer(impatient()), Refusal)
    pass_seconds(12)
    assert core.limit == 4
    assert core.offer(impatient()) is Placement.STARTED
