"""The gate on an event loop: its bounds, order, deadlines and cancellations."""

import asyncio
import math
import random
import time
from collections import Counter

import pytest

from service.admission.gate import Gate
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
from service.settings.gate import BackgroundSettings, GateSettings
from service.tenants.tenant import Tenant, Tier
from tests.admission.conftest import Clock
from tests.admission.occupation import Occupation


def gate_of(capacity: int, max_queued: int = 100, **settings: int) -> tuple[Gate, Occupation]:
    occupation = Occupation()
    return Gate(GateSettings(max_queued=max_queued, **settings), occupation, capacity), occupation


PATIENCE_S = 300.0
"""A deadline that no test comes to unless it moves the clock on."""


def context_of(tenant: str, timeout_s: float = PATIENCE_S, weight: float = 1.0) -> RequestContext:
    context = internal_context("test", timeout_s)
    context.tenant = Tenant(tenant, weight)
    return context


async def ask(
    gate: Gate, slots: int = 1, timeout_s: float = PATIENCE_S, tenant: str = "a"
) -> HeldSlots:
    return await gate.acquire(context_of(tenant, timeout_s), Demand(10, 10, slots))


async def tick(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_admits_up_to_its_capacity_and_queues_the_rest() -> None:
    gate, occupation = gate_of(2)
    held = [await ask(gate), await ask(gate)]
    waiting = asyncio.create_task(ask(gate))
    await tick()
    assert (gate.in_flight, gate.queued) == (occupation.in_flight, occupation.queued) == (2, 1)
    held[0].release()
    (await waiting).release()
    held[1].release()
    assert (gate.in_flight, gate.queued) == (occupation.in_flight, occupation.queued) == (0, 0)


async def test_slots_are_released_exactly_once() -> None:
    gate, _ = gate_of(2)
    first, second = await ask(gate), await ask(gate)
    first.release()
    first.release()
    assert gate.in_flight == 1
    second.release()


async def test_of_one_tenant_who_came_first_goes_first() -> None:
    gate, _ = gate_of(1)
    held = await ask(gate)
    order: list[int] = []

    async def wait(number: int) -> None:
        held = await ask(gate)
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
    gate, _ = gate_of(1)
    held = await ask(gate, tenant="c")
    order: list[str] = []

    async def wait(tenant: str) -> None:
        held = await ask(gate, tenant=tenant)
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
    gate, _ = gate_of(1)
    held = await ask(gate, tenant="c")
    order: list[str] = []

    async def wait(tenant: str, weight: float) -> None:
        held = await gate.acquire(context_of(tenant, weight=weight), Demand(10, 10))
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


async def test_a_request_wider_than_the_gate_takes_all_of_it() -> None:
    gate, _ = gate_of(3)
    held = await ask(gate, 16)
    assert gate.in_flight == 3
    held.release()
    assert gate.in_flight == 0


async def test_a_flex_request_is_no_wider_than_the_slots_that_flex_leaves_free() -> None:
    gate, _ = gate_of(32)
    context = context_of("a")
    context.tier = Tier.FLEX
    with pytest.raises(InvalidRequest, match="n: at most 2 with the service tier flex") as refused:
        await gate.acquire(context, Demand(10, 10, 3))
    assert refused.value.param == "n"
    (await gate.acquire(context, Demand(10, 10, 2))).release()


async def test_beside_other_requests_flex_has_the_slots_of_the_settings() -> None:
    settings = GateSettings(background=BackgroundSettings(max_in_flight=2))
    gate = Gate(settings, Occupation(), 8)
    held = await ask(gate)
    assert gate.flex_room == 2
    held.release()


async def test_the_wait_for_a_place_stands_in_the_context(clock: Clock) -> None:
    gate, _ = gate_of(1)
    first, second = context_of("a"), context_of("a")
    held = await gate.acquire(first, Demand(10, 10))
    began = time.monotonic()
    waiting = asyncio.create_task(gate.acquire(second, Demand(10, 10)))
    await tick()
    clock.move_on(5.0)
    held.release()
    held = await waiting
    assert first.times.queue == 0
    assert 5.0 <= second.times.queue <= time.monotonic() - began
    held.release()


async def test_the_observer_is_told_whose_requests_wait() -> None:
    gate, occupation = gate_of(1)
    held, flex = await ask(gate), context_of("b")
    flex.tier = Tier.FLEX
    waiting = [
        asyncio.create_task(each)
        for each in (ask(gate), ask(gate), gate.acquire(flex, Demand(10, 10)))
    ]
    await tick()
    assert occupation.waits == Counter({("a", Tier.DEFAULT): 2, ("b", Tier.FLEX): 1})
    assert occupation.limit == gate.limit == 1
    held.release()
    for each in waiting:
        (await each).release()
    assert occupation.waits == Counter()


@pytest.mark.parametrize(("admitted", "followers"), [(False, 2), (True, 0)])
async def test_the_first_part_of_a_request_stands_for_all(admitted: bool, followers: int) -> None:
    gate, _ = gate_of(1)
    context = context_of("a")
    context.parts, context.admitted = 3, admitted
    held = await gate.acquire(context, Demand(10, 10), again=True)
    request = held._request
    assert (request.followers, request.follows, request.again) == (followers, admitted, True)
    held.release()


async def test_the_core_has_the_settings() -> None:
    background = BackgroundSettings(max_in_flight=3, max_queued=7, discount=0.25)
    settings = GateSettings(
        target_token_ms=100, max_wait_ms=1500, max_patience_ms=3000, background=background
    )
    gate = Gate(settings, Occupation(), 4)
    assert gate._limiter.targets == Targets(token=0.1)
    assert gate._scheduler._background._rules == background
    context = context_of("a")
    assert (await gate.acquire(context, Demand(10, 10)))._request.max_wait == 1.5
    context.set_timeout(1000 * PATIENCE_S)
    assert (await gate.acquire(context, Demand(10, 10)))._request.max_wait == 3
    blind = Gate(GateSettings(target_token_ms=None), Occupation())._limiter.targets
    assert blind.token == blind.engine_wait == math.inf


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    gate, _ = gate_of(1, max_queued=1)
    held = await ask(gate)
    waiting = asyncio.create_task(ask(gate))
    await tick()
    with pytest.raises(QueueFull, match="limit is 1") as refused:
        await ask(gate)
    assert refused.value.retry_after == 1
    held.release()
    (await waiting).release()
    (await ask(gate)).release()


async def test_a_tenant_over_its_share_is_told_that_it_is_the_tenants_own() -> None:
    gate, _ = gate_of(1, max_queued=9)
    held = await ask(gate, tenant="light")
    waiting = [asyncio.create_task(ask(gate, tenant="heavy")) for _ in range(8)]
    await tick()
    with pytest.raises(TooManyRequests, match="8 of them yours"):
        await ask(gate, tenant="heavy")
    waiting.append(asyncio.create_task(ask(gate, tenant="light")))
    await tick()
    assert gate.queued == 9
    held.release()
    for task in asyncio.as_completed(waiting):
        (await task).release()


async def test_what_has_no_chance_is_refused_before_its_prompt_is_read() -> None:
    gate, _ = gate_of(1, max_queued=1)
    gate.refuse_early(context_of("a"))
    held = await ask(gate)
    gate.refuse_early(context_of("a"))
    waiting = asyncio.create_task(ask(gate))
    await tick()
    context = context_of("a")
    with pytest.raises(QueueFull, match="limit is 1") as refused:
        gate.refuse_early(context)
    assert (gate.in_flight, gate.queued) == (1, 1)
    assert context.gate_refusal is refused.value
    held.release()
    (await waiting).release()
    gate.refuse_early(context_of("a"))


async def test_what_was_admitted_is_read_however_full_it_is() -> None:
    gate, _ = gate_of(1, max_queued=0)
    context = context_of("a")
    held = await gate.acquire(context, Demand(10, 10))
    gate.refuse_early(context)
    held.release()


async def test_without_a_queue_a_request_is_refused_unless_a_slot_is_free() -> None:
    gate, occupation = gate_of(2, max_queued=0)
    held = await ask(gate, 2)
    with pytest.raises(QueueFull):
        await ask(gate)
    held.release()
    (await ask(gate)).release()
    assert occupation.most_queued == 0


async def experienced(gate: Gate) -> HeldSlots:
    """What the only slot's second request holds, after a wait that the gate has seen."""
    held = await ask(gate)
    waiting = asyncio.create_task(ask(gate))  # nothing is known yet
    await asyncio.sleep(0.05)
    held.charge(10, 0, 10, None)
    held.release()
    return await waiting


async def test_what_would_wait_too_long_by_experience_is_refused_at_once() -> None:
    gate, _ = gate_of(1, max_wait_ms=1)
    second = await experienced(gate)
    with pytest.raises(QueueFull, match=r"would wait \d+\.\d s"):
        await ask(gate)
    own = asyncio.create_task(gate.acquire(internal_context("proof", PATIENCE_S), Demand(10, 10)))
    await tick()
    assert gate.queued == 1
    second.release()
    (await own).release()


async def test_a_request_of_many_parts_does_not_compete_with_itself() -> None:
    gate, _ = gate_of(1, max_wait_ms=1, max_queued=2)
    first = await ask(gate)
    await asyncio.sleep(0.01)
    first.charge(10, 0, 10, None)
    first.release()
    whole = context_of("a")
    whole.parts = 8

    async def part() -> None:
        held = await gate.acquire(whole, Demand(10, 10))
        await asyncio.sleep(0.01)
        held.charge(10, 0, 10, None)
        held.release()

    await asyncio.gather(*(part() for _ in range(8)))


async def test_a_request_of_many_parts_is_refused_as_a_whole() -> None:
    gate, _ = gate_of(1, max_queued=0)
    held = await ask(gate)
    whole = context_of("a")
    with pytest.raises(QueueFull) as first:
        await gate.acquire(whole, Demand(10, 10))
    held.release()
    with pytest.raises(QueueFull) as second:
        await gate.acquire(whole, Demand(10, 10))
    assert second.value is first.value


async def test_a_deadline_that_passes_while_waiting_frees_the_place(clock: Clock) -> None:
    gate, _ = gate_of(1)
    held = await ask(gate)
    late = asyncio.create_task(ask(gate, timeout_s=60))
    await tick()
    clock.move_on(60)
    with pytest.raises(DeadlineExceeded, match="waited") as refused:
        await late
    assert refused.value.retry_after == 1
    assert (gate.in_flight, gate.queued) == (1, 0)
    held.release()


async def test_a_deadline_that_passes_while_running_ends_the_wait_for_the_engine(
    clock: Clock,
) -> None:
    gate, _ = gate_of(1)
    held = await ask(gate, timeout_s=60)
    asyncio.get_running_loop().call_soon(clock.move_on, 60)
    with pytest.raises(DeadlineExceeded, match="before the answer was complete"):
        await held.wait(asyncio.Event().wait)
    held.release()
    assert gate.in_flight == 0


async def test_an_early_deadline_behind_a_late_one_is_kept_as_well(clock: Clock) -> None:
    gate, _ = gate_of(2)
    late, early = await ask(gate), await ask(gate, timeout_s=60)
    asyncio.get_running_loop().call_soon(clock.move_on, 60)
    with pytest.raises(DeadlineExceeded):
        await early.wait(asyncio.Event().wait)
    early.release()
    late.release()


async def test_a_closed_gate_ends_all_and_refuses_until_it_opens() -> None:
    gate, occupation = gate_of(1)
    running = await ask(gate)
    step = asyncio.create_task(running.wait(lambda: asyncio.sleep(30)))
    waiting = [asyncio.create_task(ask(gate)) for _ in range(3)]
    await tick()
    gate.close(lambda: EngineDead("ended"))
    for task in (step, *waiting):
        with pytest.raises(EngineDead, match="ended"):
            await task
    with pytest.raises(EngineDead):
        await ask(gate)
    running.release()
    assert (gate.in_flight, gate.queued) == (occupation.in_flight, occupation.queued) == (0, 0)
    gate.open()
    (await ask(gate)).release()


async def test_a_grant_and_then_a_cancel_in_the_same_tick_give_the_slot_back() -> None:
    gate, _ = gate_of(1)
    held = await ask(gate)
    first, second = asyncio.create_task(ask(gate)), asyncio.create_task(ask(gate))
    await tick()
    held.release()  # grants the first, whose task has not run yet
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    (await second).release()
    assert (gate.in_flight, gate.queued) == (0, 0)


async def test_a_cancel_and_then_a_grant_in_the_same_tick_pass_the_slot_on() -> None:
    gate, _ = gate_of(1)
    held = await ask(gate)
    first, second = asyncio.create_task(ask(gate)), asyncio.create_task(ask(gate))
    await tick()
    first.cancel()  # its task has not run yet, so it still stands in the queue
    held.release()
    with pytest.raises(asyncio.CancelledError):
        await first
    (await second).release()
    assert (gate.in_flight, gate.queued) == (0, 0)


@pytest.mark.parametrize("seed", range(20))
async def test_no_slot_is_lost_or_lent_twice_under_random_cancels(seed: int) -> None:
    chance = random.Random(seed)
    gate, occupation = gate_of(3, max_queued=8)

    async def use() -> None:
        slots, timeout_s = chance.randint(1, 4), chance.choice([0.0, 0.002, PATIENCE_S])
        try:
            held = await ask(gate, slots, timeout_s, chance.choice("ab"))
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
            gate.close(lambda: QueueFull("closed"))
            gate.open()
        await tick(chance.randrange(3))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert (gate.in_flight, gate.queued) == (occupation.in_flight, occupation.queued) == (0, 0)
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
    gate, _ = gate_of(1, **bounds)
    second = await experienced(gate)
    context = context_of("a")
    if stated:
        context.set_timeout(1000 * PATIENCE_S)
    third = asyncio.create_task(gate.acquire(context, Demand(10, 10)))
    await tick()
    assert gate.queued == waits
    second.release()
    if waits:
        (await third).release()
    else:
        with pytest.raises(QueueFull, match=r"would wait \d+\.\d s"):
            await third
