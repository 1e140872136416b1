"""Ending what a task waits for, and nothing else."""

import asyncio
from functools import partial

import pytest

from service.admission.permit import Interruption


class Ended(Exception):
    """Error that the interruption raises."""


async def test_waits_return_while_nothing_is_triggered() -> None:
    interruption = Interruption()

    async def step(number: int) -> int:
        await asyncio.sleep(0)
        return number

    assert [await interruption.wait(partial(step, n)) for n in range(3)] == [0, 1, 2]


async def test_a_wait_ends_with_the_error_and_the_task_goes_on() -> None:
    interruption = Interruption()
    asyncio.get_running_loop().call_later(0.01, interruption.trigger, Ended("first"))
    with pytest.raises(Ended):
        await interruption.wait(lambda: asyncio.sleep(30))
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_trigger_between_waits_ends_the_next_and_the_first_error_counts() -> None:
    interruption = Interruption()
    interruption.trigger(Ended("first"))
    interruption.trigger(Ended("second"))
    for _ in range(2):
        with pytest.raises(Ended, match="first"):
            await interruption.wait(lambda: asyncio.sleep(30))


async def test_a_step_that_would_not_suspend_is_not_taken_after_the_trigger() -> None:
    interruption = Interruption()
    taken: list[int] = []

    async def step() -> None:
        taken.append(1)

    interruption.trigger(Ended("first"))
    with pytest.raises(Ended):
        await interruption.wait(step)
    await asyncio.sleep(0)
    assert not taken


async def test_a_cancel_from_outside_stays_a_cancel() -> None:
    interruption = Interruption()
    task = asyncio.create_task(interruption.wait(lambda: asyncio.sleep(30)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancel_from_outside_wins_over_the_trigger() -> None:
    interruption = Interruption()

    async def stubborn() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.02)

    task = asyncio.create_task(interruption.wait(stubborn))
    await asyncio.sleep(0)
    interruption.trigger(Ended())
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
