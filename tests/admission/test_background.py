"""Background work beside interactive work, in the core."""

import pytest

from service.admission.background import Background, spare_slots, widest
from service.admission.limiter import Limiter, Targets
from service.admission.load_shedding import Refusal
from service.admission.queued_request import QueuedRequest
from service.admission.scheduler import Placement, Scheduler
from service.errors import QueueFull
from service.settings.admission import BackgroundSettings
from tests.admission.requests import request
from tests.admission.test_scheduler import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


def core_of(clock: Clock, slots: int = 8, **rules: float) -> Scheduler:
    given = BackgroundSettings(**rules)
    return Scheduler(clock, Limiter(slots), max_waiting=100, background=given)


def flex(tenant: str = "a", slots: int = 1, **more: float) -> QueuedRequest:
    return request(tenant, slots=slots, background=True, **more)  # type: ignore[arg-type]


def offer(core: Scheduler, *requests: QueuedRequest) -> list[Placement | Refusal]:
    return [core.offer(each) for each in requests]


STARTED, QUEUED = Placement.STARTED, Placement.QUEUED


@pytest.mark.parametrize(("limit", "spare"), [(1, 0), (2, 1), (4, 1), (16, 1), (40, 2), (256, 16)])
def test_some_slots_are_left_for_the_next_interactive_request(limit: int, spare: int) -> None:
    assert spare_slots(limit) == spare
    assert widest(limit) == max(1, spare)


def test_background_work_alone_takes_every_slot_and_one_that_waits_in_the_engine(
    clock: Clock,
) -> None:
    core = core_of(clock)
    running = [flex(restartable=True) for _ in range(9)]
    assert offer(core, *running, flex()) == [STARTED] * 9 + [QUEUED]
    assert (core.in_use, core.background_in_use, core.background_room()) == (9, 9, 9)
    person = request()
    assert core.offer(person) is QUEUED
    assert core.preempt() == running[:2]
    for each in running[:2]:
        core.finish(each)
    assert core.next_dispatches() == [person]
    assert core.background_room() == 6


def test_background_work_that_does_not_give_way_leaves_the_spare_slots(clock: Clock) -> None:
    core = core_of(clock)
    streams = [flex() for _ in range(9)]
    assert offer(core, *streams) == [STARTED] * 7 + [QUEUED] * 2
    assert (core.in_use, core.background_in_use) == (7, 7)
    assert core.background_room() == 7
    assert (core.waiting, core.background_waiting) == (0, 2)
    assert core.offer(request()) is STARTED
    assert core.background_room() == 6


def test_it_takes_every_slot_once_its_streams_have_ended(clock: Clock) -> None:
    core = core_of(clock)
    stream, *rest = flex(), *(flex(restartable=True) for _ in range(9))
    assert offer(core, stream, *rest) == [STARTED] * 7 + [QUEUED] * 3
    core.finish(stream)
    assert core.next_dispatches() == rest[6:]


def test_beside_interactive_work_it_holds_no_more_than_its_setting(clock: Clock) -> None:
    core = core_of(clock, max_in_flight=2)
    assert core.background_room() == 9
    interactive = request()
    core.offer(interactive)
    first, *rest = (flex() for _ in range(8))
    assert offer(core, first, *rest) == [STARTED] * 2 + [QUEUED] * 6
    core.finish(interactive)
    clock.now = 9.9
    assert core.next_dispatches() == []
    clock.now = 10.0
    assert core.next_dispatches() == rest[1:6]


def test_background_requests_alone_are_not_beside_interactive_work(clock: Clock) -> None:
    core = core_of(clock, max_in_flight=2)
    assert core.refusal(flex()) is None
    assert offer(core, *(flex() for _ in range(4))) == [STARTED] * 4


def test_a_full_background_queue_refuses_nobody_while_a_slot_is_free(clock: Clock) -> None:
    core = core_of(clock, slots=2, max_queued=1)
    first, second = flex(), flex()
    assert offer(core, first, second) == [STARTED, QUEUED]
    assert isinstance(core.offer(flex()), Refusal)
    core.finish(first)
    assert core.offer(flex()) is QUEUED


def test_interactive_work_is_not_refused_for_the_slots_of_background_work(clock: Clock) -> None:
    core = Scheduler(clock, Limiter(2), max_waiting=0)
    neighbour = request("b")
    core.offer(neighbour)
    core.finish(neighbour)
    assert offer(core, flex(), request(), request()) == [STARTED, STARTED, QUEUED]
    assert isinstance(core.offer(request()), Refusal)


def test_no_background_request_gives_way_for_a_slot_beyond_the_limit(clock: Clock) -> None:
    limiter = Limiter(4)
    core = Scheduler(clock, limiter, max_waiting=9)
    running = [flex(restartable=True) for _ in range(2)]
    offer(core, *running, request(), request(), request())
    limiter.ceiling = 2
    assert core.preempt() == []
    limiter.ceiling = 3
    assert core.preempt() == running


def test_background_tokens_of_a_tenant_without_interactive_work_cost_it_a_turn(
    clock: Clock,
) -> None:
    core = core_of(clock, slots=2, discount=0.0)
    background, interactive = flex("alone", most=100), request("c")
    offer(core, background, interactive, request("b"), request("b"))
    core.charge(background, cached=0, output=50)
    core.offer(request("alone"))
    core.finish(interactive)
    (started,) = core.next_dispatches()
    core.finish(started)
    (second,) = core.next_dispatches()
    assert [started.tenant, second.tenant] == ["b", "b"]


def test_a_slot_that_background_gives_back_goes_to_interactive_work(clock: Clock) -> None:
    core = core_of(clock)
    running = [flex() for _ in range(7)]
    offer(core, *running, waits := flex())
    first, second, third = request(), request("b"), request("b")
    assert offer(core, first, second, third) == [STARTED, QUEUED, QUEUED]
    core.finish(running[0])
    assert core.next_dispatches() == [second]
    core.finish(running[1])
    assert core.next_dispatches() == [third]
    core.finish(running[2])
    assert core.next_dispatches() == []  # three are taken, and one is left for the next
    core.finish(running[3])
    assert core.next_dispatches() == [waits]


def test_a_background_request_waits_where_an_interactive_one_is_refused(clock: Clock) -> None:
    core = core_of(clock, slots=1)
    held = request()
    core.offer(held)
    for second in range(1, 11):
        clock.now = second
        core.charge(held, cached=0, output=second)
    core.offer(request("b"))
    assert isinstance(core.offer(request("b", max_wait=0.0)), Refusal)
    assert core.offer(flex("b", max_wait=0.0)) is QUEUED


def test_only_a_full_queue_refuses_background_work_and_leaves_places_to_others(
    clock: Clock,
) -> None:
    core = core_of(clock, slots=1, max_queued=9)
    held = request()
    core.offer(held)
    answers = offer(core, *(flex("heavy") for _ in range(9)))
    assert answers[:8] == [QUEUED] * 8
    refused = answers[8]
    assert isinstance(refused, Refusal)
    assert refused.message == (
        "The queue has no place for this request: 8 wait, 8 of them yours. Its limit is 9, and "
        "some places are kept for other callers. Try again later."
    )
    assert refused.retry_after == 30
    assert isinstance(refused, QueueFull)
    assert core.offer(flex("light")) is QUEUED
    assert core.offer(flex("heavy", follows=True)) is QUEUED


def test_a_waiting_background_request_ends_at_its_deadline(clock: Clock) -> None:
    core = core_of(clock, slots=1)
    held, late, patient = request(), flex(deadline=5.0), flex()
    offer(core, held, late, patient)
    clock.now = 5.0
    core.finish(held)
    core.next_dispatches()
    assert core.expire() == [late]
    assert core.background_in_use == 1


def test_a_full_background_queue_takes_no_place_and_no_forecast_from_interactive_work(
    clock: Clock,
) -> None:
    core = core_of(clock, slots=1)
    held = request()
    offer(core, held, *(flex() for _ in range(50)))
    assert core.offer(request()) is QUEUED
    assert core.refusal(request(max_wait=0.0)) is None  # nothing measured, nothing predicted


@pytest.mark.parametrize(("discount", "first"), [(0.0, "b"), (1.0, "a")])
def test_background_tokens_cost_a_turn_at_a_discount_while_others_wait(
    clock: Clock, discount: float, first: str
) -> None:
    core = core_of(clock, slots=2, discount=discount)
    background, interactive = flex("a", most=100), request("c")
    offer(core, background, interactive)
    waits = [request("a"), request("b")]
    assert offer(core, *waits) == [QUEUED] * 2
    core.charge(background, cached=0, output=50)
    core.finish(interactive)
    (started,) = core.next_dispatches()
    assert started.tenant == first


@pytest.mark.parametrize("by_steps", [False, True])
def test_background_tokens_that_come_one_by_one_cost_a_turn_too(
    clock: Clock, by_steps: bool
) -> None:
    rules = BackgroundSettings(discount=0.0)
    core = Scheduler(clock, Limiter(2), max_waiting=100, background=rules)
    background, interactive = flex("a", most=100), request("c")
    offer(core, background, interactive)
    core.charge(background, cached=0, output=1)
    assert offer(core, request("a"), request("b")) == [QUEUED] * 2
    for output in range(2, 50):
        if by_steps:
            core.charge_step([(background, 1)])
        else:
            core.charge(background, output=output)
    core.finish(interactive)
    (started,) = core.next_dispatches()
    assert started.tenant == "b"


def test_background_tokens_are_free_while_nobody_waits(clock: Clock) -> None:
    core = core_of(clock, slots=2, discount=0.0)
    background, interactive = flex("a", most=100), request("c")
    offer(core, background, interactive)
    core.charge(background, cached=0, output=50)
    offer(core, request("a"), request("b"))
    core.finish(interactive)
    (started,) = core.next_dispatches()
    assert started.tenant == "a"


def test_slow_tokens_beside_background_work_do_not_lower_the_limit(clock: Clock) -> None:
    limiter = Limiter(8, floor=2, targets=Targets(token=0.1))
    core = Scheduler(clock, limiter, max_waiting=100)
    running = [request(most=1000) for _ in range(4)] + [flex(most=1000) for _ in range(3)]
    offer(core, *running)
    for step in range(1, 40):
        clock.now += 0.2
        for each in running:
            core.charge(each, cached=0, output=step)
        core.next_dispatches()
    assert core.limit == 8
    for each in running[4:]:  # background work gives way first
        core.finish(each)
    core.offer(flex())
    assert core.next_dispatches() == []
    assert core.background_in_use == 0
    crowd = [request(most=1000) for _ in range(5)]
    assert offer(core, *crowd) == [STARTED] * 4 + [QUEUED]
    for step in range(40, 60):
        clock.now += 0.2
        for each in running[:4] + crowd[:4]:
            core.charge(each, output=step)
        core.next_dispatches()
    assert limiter.limit < 8


def test_background_tokens_have_their_price_less_the_discount() -> None:
    assert Background(BackgroundSettings(discount=0.25)).price(8.0) == 6.0


def test_as_many_requests_give_way_as_bring_the_slots_back() -> None:
    background = Background(BackgroundSettings())
    first, second, third = (flex(slots=2, restartable=True) for _ in range(3))
    for output, each in enumerate((first, second, third)):
        background.queue.push(each, 0.0)
        background.pop(6)
        background.queue.add_output(each, output)
    assert background.give_way(4) == [first, second]
    assert background.give_way(4) == []
    assert background.give_way(5) == [third]


def test_the_requests_that_made_least_give_way_and_each_is_named_once(clock: Clock) -> None:
    core = core_of(clock, slots=4)
    young, old, stream = flex(restartable=True), flex(restartable=True), flex()
    offer(core, young, old, stream)
    core.charge(old, cached=0, output=5)
    core.charge(young, cached=0, output=2)
    assert core.preempt() == []
    people = [request() for _ in range(4)]
    assert offer(core, *people) == [STARTED] + [QUEUED] * 3
    assert core.preempt() == [young, old]
    assert core.preempt() == []
    core.finish(young)
    again = flex(restartable=True, follows=True, again=True)
    assert core.offer(again) is QUEUED
    assert core.next_dispatches() == [people[1]]
    assert core.preempt() == []
    core.finish(old)
    assert core.next_dispatches() == [people[2]]
    core.finish(people[0])
    assert core.next_dispatches() == [people[3]]
    core.offer(flex())
    core.finish(people[1])
    core.finish(people[2])
    assert core.next_dispatches()[0] is again


def test_only_interactive_work_is_above_a_share(clock: Clock) -> None:
    core = core_of(clock)
    people = [request("a") for _ in range(4)]
    assert offer(core, *people, request("b")) == [STARTED] * 5
    behind = [flex("a"), flex("a")]
    assert offer(core, *behind) == [STARTED] * 2
    more = request("a")
    assert core.offer(more) is STARTED
    assert [core.above_share(each) for each in (more, *behind)] == [True, False, False]
    core.finish(people.pop())
    assert not core.above_share(more)
