"""One timer over many waits."""

import asyncio

import pytest

from service.gate.deadline import DeadlineTimer


async def test_waits_that_end_in_time_return() -> None:
    deadline = DeadlineTimer(30)
    assert [await deadline.wait(asyncio.sleep(0, number)) for number in range(3)] == [0, 1, 2]
    deadline.close()


async def test_a_wait_ends_when_the_time_passes_and_the_task_goes_on() -> None:
    deadline = DeadlineTimer(0.01)
    with pytest.raises(TimeoutError):
        await deadline.wait(asyncio.sleep(30))
    await asyncio.sleep(0)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_time_that_passed_between_waits_ends_the_next() -> None:
    deadline = DeadlineTimer(0)
    await asyncio.sleep(0.01)
    with pytest.raises(TimeoutError):
        await deadline.wait(asyncio.sleep(30))


async def test_a_cancel_from_outside_stays_a_cancel() -> None:
    deadline = DeadlineTimer(30)
    task = asyncio.create_task(deadline.wait(asyncio.sleep(30)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadline.close()


async def test_a_cancel_from_outside_wins_over_the_deadline() -> None:
    deadline = DeadlineTimer(0.01)

    async def stubborn() -> None:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.02)

    task = asyncio.create_task(deadline.wait(stubborn()))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_closed_deadline_never_passes() -> None:
    deadline = DeadlineTimer(0.01)
    deadline.close()
    assert await deadline.wait(asyncio.sleep(0.03, "in time")) == "in time"
