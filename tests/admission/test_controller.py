"""Admission control on an event loop: its bounds, order, deadlines and cancellations."""

import asyncio
import math
import random
import time
from collections import Counter
from collections.abc import Coroutine
from typing import Any

import pytest

from service.admission.controller import AdmissionController
from service.admission.limiter import Targets
from service.admission.queued_request import Demand
from service.admission.slots import HeldSlots
from service.context import RequestContext, internal_context
from service.errors import (
    DeadlineExceeded,
    EngineDead,
    InvalidRequest,
    QueueFull,
    TooManyRequests,
)
from service.settings.admission import AdmissionSettings, BackgroundSettings
from service.tenants.tenant import Tenant, Tier
from tests.admission.conftest import Clock
from tests.admission.occupation import Occupation


def admission_of(
    capacity: int, max_queued: int = 100, **settings: int
) -> tuple[AdmissionController, Occupation]:
    occupation = Occupation()
    return AdmissionController(
        AdmissionSettings(max_queued=max_queued, **settings), occupation, capacity
    ), occupation


PATIENCE_S = 300.0
"""A deadline that no test comes to unless it moves the clock on."""


def context_of(tenant: str, timeout_s: float = PATIENCE_S, weight: float = 1.0) -> RequestContext:
    context = internal_context("test", timeout_s)
    context.tenant = Tenant(tenant, weight)
    return context


async def ask(
    admission: AdmissionController, slots: int = 1, timeout_s: float = PATIENCE_S, tenant: str = "a"
) -> HeldSlots:
    return await admission.acquire(context_of(tenant, timeout_s), Demand(10, 10, slots))


async def tick(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_admits_up_to_its_capacity_and_queues_the_rest() -> None:
    admission, occupation = admission_of(2)
    held = [await ask(admission), await ask(admission)]
    waiting = asyncio.create_task(ask(admission))
    await tick()
    assert (
        (admission.in_flight, admission.queued)
        == (occupation.in_flight, occupation.queued)
        == (2, 1)
    )
    held[0].release()
    (await waiting).release()
    held[1].release()
    assert (
        (admission.in_flight, admission.queued)
        == (occupation.in_flight, occupation.queued)
        == (0, 0)
    )


async def test_slots_are_released_exactly_once() -> None:
    admission, _ = admission_of(2)
    first, second = await ask(admission), await ask(admission)
    first.release()
    first.release()
    assert admission.in_flight == 1
    second.release()


async def test_of_one_tenant_who_came_first_goes_first() -> None:
    admission, _ = admission_of(1)
    held = await ask(admission)
    order: list[int] = []

    async def wait(number: int) -> None:
        held = await ask(admission)
        order.append(number)
        held.release()

    tasks = []
    for number in range(10):
        tasks.append(asyncio.create_task(wait(number)))
        await tick(1)
    held.release()
    await asyncio.gather(*tasks)
    assert order == list(range(10))


async def test_tenants_take_turns_by_what_they_used_whoever_came_first() -> None:
    admission, _ = admission_of(1)
    held = await ask(admission, tenant="c")
    order: list[str] = []

    async def wait(tenant: str) -> None:
        held = await ask(admission, tenant=tenant)
        order.append(tenant)
        held.charge(10, 0, 10, None)
        held.release()

    tasks = []
    for tenant in "aaaaaabbb":
        tasks.append(asyncio.create_task(wait(tenant)))
        await tick(1)
    held.release()
    await asyncio.gather(*tasks)
    assert "".join(order) in ("abababaaa", "bababaaaa")


async def test_a_tenant_of_twice_the_weight_goes_twice_as_often() -> None:
    admission, _ = admission_of(1)
    held = await ask(admission, tenant="c")
    order: list[str] = []

    async def wait(tenant: str, weight: float) -> None:
        held = await admission.acquire(context_of(tenant, weight=weight), Demand(10, 10))
        order.append(tenant)
        held.charge(10, 0, 10, None)
        held.release()

    tasks = []
    for _ in range(20):
        tasks += [asyncio.create_task(wait("heavy", 2.0)), asyncio.create_task(wait("light", 1.0))]
        await tick(1)
    held.release()
    await asyncio.gather(*tasks)
    assert order[:15].count("heavy") == 10


async def test_a_request_wider_than_the_capacity_takes_all_of_it() -> None:
    admission, _ = admission_of(3)
    held = await ask(admission, 16)
    assert admission.in_flight == 3
    held.release()
    assert admission.in_flight == 0


async def test_a_flex_request_is_no_wider_than_the_slots_that_flex_leaves_free() -> None:
    admission, _ = admission_of(32)
    context = context_of("a")
    context.tier = Tier.FLEX
    with pytest.raises(InvalidRequest, match="n: at most 2 with the service tier flex") as refused:
        await admission.acquire(context, Demand(10, 10, 3))
    assert refused.value.param == "n"
    (await admission.acquire(context, Demand(10, 10, 2))).release()


async def test_beside_other_requests_flex_has_the_slots_of_the_settings() -> None:
    settings = AdmissionSettings(background=BackgroundSettings(max_in_flight=2))
    admission = AdmissionController(settings, Occupation(), 8)
    held = await ask(admission)
    assert admission.flex_room == 2
    held.release()


async def test_the_wait_for_a_place_stands_in_the_context(clock: Clock) -> None:
    admission, _ = admission_of(1)
    first, second = context_of("a"), context_of("a")
    held = await admission.acquire(first, Demand(10, 10))
    began = time.monotonic()
    waiting = asyncio.create_task(admission.acquire(second, Demand(10, 10)))
    await tick()
    clock.move_on(5.0)
    held.release()
    held = await waiting
    assert first.times.queue == 0
    assert 5.0 <= second.times.queue <= time.monotonic() - began
    held.release()


async def test_the_observer_is_told_whose_requests_wait() -> None:
    admission, occupation = admission_of(1)
    held, flex = await ask(admission), context_of("b")
    flex.tier = Tier.FLEX
    waiting = [
        asyncio.create_task(each)
        for each in (ask(admission), ask(admission), admission.acquire(flex, Demand(10, 10)))
    ]
    await tick()
    assert occupation.waits == Counter({("a", Tier.DEFAULT): 2, ("b", Tier.FLEX): 1})
    assert occupation.limit == admission.limit == 1
    held.release()
    for each in waiting:
        (await each).release()
    assert occupation.waits == Counter()


@pytest.mark.parametrize(("admitted", "followers"), [(False, 2), (True, 0)])
async def test_the_first_part_of_a_request_stands_for_all(admitted: bool, followers: int) -> None:
    admission, _ = admission_of(1)
    context = context_of("a")
    context.parts, context.admitted = 3, admitted
    held = await admission.acquire(context, Demand(10, 10), again=True)
    request = held._request
    assert (request.followers, request.follows, request.again) == (followers, admitted, True)
    held.release()


async def test_the_core_has_the_settings() -> None:
    background = BackgroundSettings(max_in_flight=3, max_queued=7, discount=0.25)
    settings = AdmissionSettings(
        target_token_ms=100, max_wait_ms=1500, max_patience_ms=3000, background=background
    )
    admission = AdmissionController(settings, Occupation(), 4)
    assert admission._limiter.targets == Targets(token=0.1)
    assert admission._scheduler._background._rules == background
    context = context_of("a")
    assert (await admission.acquire(context, Demand(10, 10)))._request.max_wait == 1.5
    context.set_timeout(1000 * PATIENCE_S)
    assert (await admission.acquire(context, Demand(10, 10)))._request.max_wait == 3
    blind = AdmissionController(
        AdmissionSettings(target_token_ms=None), Occupation()
    )._limiter.targets
    assert blind.token == blind.engine_wait == math.inf


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    admission, _ = admission_of(1, max_queued=1)
    held = await ask(admission)
    waiting = asyncio.create_task(ask(admission))
    await tick()
    with pytest.raises(QueueFull, match="limit is 1") as refused:
        await ask(admission)
    assert refused.value.retry_after == 1
    held.release()
    (await waiting).release()
    (await ask(admission)).release()


async def test_a_tenant_over_its_share_is_told_that_it_is_the_tenants_own() -> None:
    admission, _ = admission_of(1, max_queued=9)
    held = await ask(admission, tenant="light")
    waiting = [asyncio.create_task(ask(admission, tenant="heavy")) for _ in range(8)]
    await tick()
    with pytest.raises(TooManyRequests, match="8 of them yours"):
        await ask(admission, tenant="heavy")
    waiting.append(asyncio.create_task(ask(admission, tenant="light")))
    await tick()
    assert admission.queued == 9
    held.release()
    for task in asyncio.as_completed(waiting):
        (await task).release()


async def test_what_has_no_chance_is_refused_before_its_prompt_is_read() -> None:
    admission, _ = admission_of(1, max_queued=1)
    admission.refuse_early(context_of("a"))
    held = await ask(admission)
    admission.refuse_early(context_of("a"))
    waiting = asyncio.create_task(ask(admission))
    await tick()
    context = context_of("a")
    with pytest.raises(QueueFull, match="limit is 1") as refused:
        admission.refuse_early(context)
    assert (admission.in_flight, admission.queued) == (1, 1)
    assert context.admission_refusal is refused.value
    held.release()
    (await waiting).release()
    admission.refuse_early(context_of("a"))


async def test_what_was_admitted_is_read_however_full_it_is() -> None:
    admission, _ = admission_of(1, max_queued=0)
    context = context_of("a")
    held = await admission.acquire(context, Demand(10, 10))
    admission.refuse_early(context)
    held.release()


async def test_without_a_queue_a_request_is_refused_unless_a_slot_is_free() -> None:
    admission, occupation = admission_of(2, max_queued=0)
    held = await ask(admission, 2)
    with pytest.raises(QueueFull):
        await ask(admission)
    held.release()
    (await ask(admission)).release()
    assert occupation.most_queued == 0


async def experienced(admission: AdmissionController) -> HeldSlots:
    """What the only slot's second request holds, after a wait that the scheduler has seen."""
    held = await ask(admission)
    waiting = asyncio.create_task(ask(admission))  # nothing is known yet
    await asyncio.sleep(0.05)
    held.charge(10, 0, 10, None)
    held.release()
    return await waiting


async def test_what_would_wait_too_long_by_experience_is_refused_at_once() -> None:
    admission, _ = admission_of(1, max_wait_ms=1)
    second = await experienced(admission)
    with pytest.raises(QueueFull, match=r"would wait \d+\.\d s"):
        await ask(admission)
    own = asyncio.create_task(
        admission.acquire(internal_context("proof", PATIENCE_S), Demand(10, 10))
    )
    await tick()
    assert admission.queued == 1
    second.release()
    (await own).release()


async def test_a_request_of_many_parts_does_not_compete_with_itself() -> None:
    admission, _ = admission_of(1, max_wait_ms=1, max_queued=2)
    first = await ask(admission)
    await asyncio.sleep(0.01)
    first.charge(10, 0, 10, None)
    first.release()
    whole = context_of("a")
    whole.parts = 8

    async def part() -> None:
        held = await admission.acquire(whole, Demand(10, 10))
        await asyncio.sleep(0.01)
        held.charge(10, 0, 10, None)
        held.release()

    await asyncio.gather(*(part() for _ in range(8)))


async def test_bulk_work_waits_and_takes_turns_with_its_tenants_other_requests() -> None:
    admission, _ = admission_of(1, max_wait_ms=1)
    first = await ask(admission)
    await asyncio.sleep(0.01)
    first.charge(10, 0, 10, None)
    first.release()
    order: list[str] = []

    async def serve(context: RequestContext, name: str) -> None:
        held = await admission.acquire(context, Demand(10, 10))
        await tick()
        held.charge(10, 0, 10, None)
        order.append(name)
        held.release()

    def bulk() -> list[Coroutine[Any, Any, None]]:
        whole = context_of("a")
        whole.parts = 8
        return [serve(whole, "bulk") for _ in range(8)]

    held = await ask(admission)
    texts = [asyncio.create_task(each) for each in bulk() + bulk()]
    await tick()
    assert admission.queued == 16
    patient = context_of("a")
    patient.stated_ms = 1000
    people = [asyncio.create_task(serve(patient, "chat")) for _ in range(3)]
    await tick()
    held.release()
    await asyncio.gather(*texts, *people)
    assert order[:6].count("chat") == 3


async def test_a_request_of_many_parts_is_refused_as_a_whole() -> None:
    admission, _ = admission_of(1, max_queued=0)
    held = await ask(admission)
    whole = context_of("a")
    with pytest.raises(QueueFull) as first:
        await admission.acquire(whole, Demand(10, 10))
    held.release()
    with pytest.raises(QueueFull) as second:
        await admission.acquire(whole, Demand(10, 10))
    assert second.value is first.value


async def test_a_deadline_that_passes_while_waiting_frees_the_place(clock: Clock) -> None:
    admission, _ = admission_of(1)
    held = await ask(admission)
    late = asyncio.create_task(ask(admission, timeout_s=60))
    await tick()
    clock.move_on(60)
    with pytest.raises(DeadlineExceeded, match="waited") as refused:
        await late
    assert refused.value.retry_after == 1
    assert (admission.in_flight, admission.queued) == (1, 0)
    held.release()


async def test_a_deadline_that_passes_while_running_ends_the_wait_for_the_engine(
    clock: Clock,
) -> None:
    admission, _ = admission_of(1)
    held = await ask(admission, timeout_s=60)
    asyncio.get_running_loop().call_soon(clock.move_on, 60)
    with pytest.raises(DeadlineExceeded, match="before the answer was complete"):
        await held.wait(asyncio.Event().wait)
    held.release()
    assert admission.in_flight == 0


async def test_an_early_deadline_behind_a_late_one_is_kept_as_well(clock: Clock) -> None:
    admission, _ = admission_of(2)
    late, early = await ask(admission), await ask(admission, timeout_s=60)
    asyncio.get_running_loop().call_soon(clock.move_on, 60)
    with pytest.raises(DeadlineExceeded):
        await early.wait(asyncio.Event().wait)
    early.release()
    late.release()


async def test_a_closed_admission_ends_all_and_refuses_until_it_opens() -> None:
    admission, occupation = admission_of(1)
    running = await ask(admission)
    step = asyncio.create_task(running.wait(lambda: asyncio.sleep(30)))
    waiting = [asyncio.create_task(ask(admission)) for _ in range(3)]
    await tick()
    admission.close(lambda: EngineDead("ended"))
    for task in (step, *waiting):
        with pytest.raises(EngineDead, match="ended"):
            await task
    with pytest.raises(EngineDead):
        await ask(admission)
    running.release()
    assert (
        (admission.in_flight, admission.queued)
        == (occupation.in_flight, occupation.queued)
        == (0, 0)
    )
    admission.open()
    (await ask(admission)).release()


async def test_a_grant_and_then_a_cancel_in_the_same_tick_give_the_slot_back() -> None:
    admission, _ = admission_of(1)
    held = await ask(admission)
    first, second = asyncio.create_task(ask(admission)), asyncio.create_task(ask(admission))
    await tick()
    held.release()  # grants the first, whose task has not run yet
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    (await second).release()
    assert (admission.in_flight, admission.queued) == (0, 0)


async def test_a_cancel_and_then_a_grant_in_the_same_tick_pass_the_slot_on() -> None:
    admission, _ = admission_of(1)
    held = await ask(admission)
    first, second = asyncio.create_task(ask(admission)), asyncio.create_task(ask(admission))
    await tick()
    first.cancel()  # its task has not run yet, so it still stands in the queue
    held.release()
    with pytest.raises(asyncio.CancelledError):
        await first
    (await second).release()
    assert (admission.in_flight, admission.queued) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_no_slot_is_lost_or_lent_twice_under_random_cancels(seed: int) -> None:
    chance = random.Random(seed)
    admission, occupation = admission_of(3, max_queued=8)

    async def use() -> None:
        slots, timeout_s = chance.randint(1, 4), chance.choice([0.0, 0.002, PATIENCE_S])
        try:
            held = await ask(admission, slots, timeout_s, chance.choice("ab"))
        except (QueueFull, TooManyRequests, DeadlineExceeded):
            return
        try:
            await tick(chance.randrange(4))
        finally:
            held.release()

    tasks = []
    for _ in range(200):
        tasks.append(asyncio.create_task(use()))
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
        if chance.random() < 0.02:
            admission.close(lambda: QueueFull("closed"))
            admission.open()
        await tick(chance.randrange(3))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert (
        (admission.in_flight, admission.queued)
        == (occupation.in_flight, occupation.queued)
        == (0, 0)
    )
    assert occupation.most_in_flight <= 3 + 2  # the last to start may borrow slots - 1
    # The queue's 8, and what a tenant asks within its share of the engine, here at most 2 slots.
    assert occupation.most_queued <= 8 + 2


@pytest.mark.parametrize(
    ("stated", "bounds", "waits"),
    [
        (False, {"max_wait_ms": 1, "max_patience_ms": 60_000}, False),
        (True, {"max_wait_ms": 1, "max_patience_ms": 60_000}, True),
        (True, {"max_wait_ms": 1, "max_patience_ms": 1}, False),
        (True, {"max_wait_ms": 60_000, "max_patience_ms": 1}, True),
    ],
)
async def test_who_states_a_deadline_may_wait_longer_within_one_bound(
    stated: bool, bounds: dict[str, int], waits: bool
) -> None:
    admission, _ = admission_of(1, **bounds)
    second = await experienced(admission)
    context = context_of("a")
    if stated:
        context.set_timeout(1000 * PATIENCE_S)
    third = asyncio.create_task(admission.acquire(context, Demand(10, 10)))
    await tick()
    assert admission.queued == waits
    second.release()
    if waits:
        (await third).release()
    else:
        with pytest.raises(QueueFull, match=r"would wait \d+\.\d s"):
            await third
