"""The gate: its bounds, its order, and what cancellation leaves behind."""

import asyncio
import random

import pytest

from service.context import internal_context
from service.errors import DeadlineExceeded, QueueFull
from service.gate.gate import Gate, Permit
from tests.gate.occupation import Occupation


def gate_of(capacity: int, max_queued: int = 100) -> tuple[Gate, Occupation]:
    occupation = Occupation()
    return Gate(capacity, max_queued, occupation), occupation


async def ask(gate: Gate, slots: int = 1, timeout_s: float = 2.0) -> Permit:
    return await gate.acquire(internal_context("test", timeout_s), slots)


async def tick(times: int = 5) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


async def test_admits_up_to_its_capacity_and_queues_the_rest() -> None:
    gate, occupation = gate_of(2)
    permits = [await ask(gate), await ask(gate)]
    waiting = asyncio.create_task(ask(gate))
    await tick()
    assert (gate.in_flight, gate.queued) == (occupation.in_flight, occupation.queued) == (2, 1)
    permits[0].release()
    (await waiting).release()
    permits[1].release()
    assert (gate.in_flight, gate.queued) == (occupation.in_flight, occupation.queued) == (0, 0)


async def test_a_permit_is_released_exactly_once() -> None:
    gate, _ = gate_of(2)
    first, second = await ask(gate), await ask(gate)
    first.release()
    first.release()
    assert gate.in_flight == 1
    second.release()


async def test_who_came_first_goes_first() -> None:
    gate, _ = gate_of(1)
    held = await ask(gate)
    order: list[int] = []

    async def wait(number: int) -> None:
        permit = await ask(gate)
        order.append(number)
        permit.release()

    tasks = []
    for number in range(10):
        tasks.append(asyncio.create_task(wait(number)))
        await tick(1)
    held.release()
    await asyncio.gather(*tasks)
    assert order == list(range(10))


async def test_a_newcomer_does_not_overtake_a_wide_request_that_waits() -> None:
    gate, _ = gate_of(4)
    held = await ask(gate, 2)
    wide = asyncio.create_task(ask(gate, 3))
    await tick()
    narrow = asyncio.create_task(ask(gate, 1))  # would fit beside what runs
    await tick()
    assert not narrow.done()
    held.release()
    await asyncio.gather(wide, narrow)
    assert gate.in_flight == 4


async def test_a_request_wider_than_the_gate_takes_all_of_it() -> None:
    gate, _ = gate_of(3)
    permit = await ask(gate, 16)
    assert gate.in_flight == 3
    permit.release()
    assert gate.in_flight == 0


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_back() -> None:
    gate, _ = gate_of(1, max_queued=1)
    held = await ask(gate)
    waiting = asyncio.create_task(ask(gate))
    await tick()
    with pytest.raises(QueueFull, match="limit 1") as refused:
        await ask(gate)
    assert refused.value.retry_after == 1
    with pytest.raises(QueueFull):
        gate.check_room()
    held.release()
    gate.check_room()
    (await waiting).release()


async def test_the_queue_stays_bounded_while_a_wide_request_waits_beside_free_slots() -> None:
    gate, occupation = gate_of(4, max_queued=1)
    held = await ask(gate, 3)
    wide = asyncio.create_task(ask(gate, 4))
    await tick()
    with pytest.raises(QueueFull):
        await ask(gate)
    with pytest.raises(QueueFull):
        gate.check_room()
    held.release()
    (await wide).release()
    assert occupation.most_queued == 1


async def test_without_a_queue_a_request_that_does_not_fit_is_refused() -> None:
    gate, occupation = gate_of(4, max_queued=0)
    held = await ask(gate, 3)
    with pytest.raises(QueueFull):
        await ask(gate, 2)
    (await ask(gate, 1)).release()
    held.release()
    assert occupation.most_queued == 0


async def test_a_deadline_that_passes_while_waiting_frees_the_place() -> None:
    gate, _ = gate_of(1)
    held = await ask(gate)
    with pytest.raises(DeadlineExceeded, match="waited") as refused:
        await ask(gate, timeout_s=0.01)
    assert refused.value.retry_after
    assert (gate.in_flight, gate.queued) == (1, 0)
    held.release()


async def test_a_cancelled_head_lets_those_behind_it_in() -> None:
    gate, _ = gate_of(4)
    held = await ask(gate, 3)
    wide = asyncio.create_task(ask(gate, 4))
    await tick()
    narrow = asyncio.create_task(ask(gate, 1))
    await tick()
    wide.cancel()
    (await narrow).release()
    held.release()
    assert (gate.in_flight, gate.queued) == (0, 0)


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
        try:
            permit = await ask(gate, chance.randint(1, 4), chance.choice([0.0, 0.002, 2.0]))
        except (QueueFull, DeadlineExceeded):
            return
        try:
            await tick(chance.randrange(4))
        finally:
            permit.release()

    tasks = []
    for _ in range(200):
        tasks.append(asyncio.create_task(use()))
        if chance.random() < 0.4:
            chance.choice(tasks).cancel()
        await tick(chance.randrange(3))
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert {type(result) for result in results} <= {type(None), asyncio.CancelledError}
    assert (gate.in_flight, gate.queued) == (occupation.in_flight, occupation.queued) == (0, 0)
    assert occupation.most_in_flight <= 3
    assert occupation.most_queued <= 8
