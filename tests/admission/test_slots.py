"""An interrupt ends what the holder of slots waits for, and nothing else."""

import asyncio
from functools import partial

import pytest

from service.admission.limiter import Limiter
from service.admission.scheduler import Scheduler
from service.admission.slots import Charges, HeldSlots
from service.errors import ServiceError
from tests.admission.requests import request


class Ended(ServiceError):
    """Error with which the wait ends."""


def hold_slots() -> HeldSlots:
    charges = Charges(Scheduler(lambda: 0.0, Limiter(1), max_waiting=0))
    return HeldSlots(charges, request(), lambda _: None)


async def test_waits_return_while_nothing_is_triggered() -> None:
    held = hold_slots()

    async def step(number: int) -> int:
        await asyncio.sleep(0)
        return number

    assert [await held.wait(partial(step, n)) for n in range(3)] == [0, 1, 2]


async def test_a_wait_ends_with_the_error_and_the_task_goes_on() -> None:
    held = hold_slots()
    asyncio.get_running_loop().call_later(0.01, held.interrupt, Ended("first"))
    with pytest.raises(Ended):
        await held.wait(lambda: asyncio.sleep(30))
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_trigger_between_waits_ends_the_next_and_the_first_error_counts() -> None:
    held = hold_slots()
    held.interrupt(Ended("first"))
    held.interrupt(Ended("second"))
    for _ in range(2):
        with pytest.raises(Ended, match="first"):
            await held.wait(lambda: asyncio.sleep(30))


async def test_a_step_that_would_not_suspend_is_not_taken_after_the_trigger() -> None:
    held = hold_slots()
    taken: list[int] = []

    async def step() -> None:
        taken.append(1)

    held.interrupt(Ended("first"))
    with pytest.raises(Ended):
        await held.wait(step)
    await asyncio.sleep(0)
    assert not taken


async def test_a_cancel_from_outside_stays_a_cancel() -> None:
    held = hold_slots()
    task = asyncio.create_task(held.wait(lambda: asyncio.sleep(30)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_from_outside_wins_over_the_trigger() -> None:
    held = hold_slots()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.02)

    task = asyncio.create_task(held.wait(stubborn))
    await asyncio.sleep(0)
    held.interrupt(Ended())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
