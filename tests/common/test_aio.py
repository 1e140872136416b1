"""Several things at once: their results, their first failure, and who cancels them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext

import pytest

from service.admission.queued_request import Demand
from service.classification.classifier import Question, zero_shot
from service.classification.result import ResultOptions, classify_batch
from service.common.aio import ParallelStack, beside, both, bounded_gather, gather
from service.context import enter_context, internal_context
from service.errors import QueueFull, ServiceError
from tests.fake_engines import fake_engine


async def number(value: int) -> int:
    await asyncio.sleep(0)
    return value


async def failing() -> int:
    raise QueueFull("full", retry_after=1)


async def text() -> str:
    return "text"


async def test_both_give_their_results_or_the_first_failure() -> None:
    assert await both(number(1), text()) == (1, "text")
    with pytest.raises(QueueFull):
        await both(number(1), failing())


class SlowToEnd:
    """Takes some turns of the loop to end when it is cancelled."""

    ended = False

    async def run(self) -> int:
        try:
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.05)
            self.ended = True
        return 0


async def follow(slow: SlowToEnd) -> None:
    await slow.run()


@asynccontextmanager
async def unable() -> AsyncIterator[None]:
    await failing()
    yield


async def test_results_come_in_the_order_of_what_was_asked() -> None:
    assert await gather(number(value) for value in range(3)) == [0, 1, 2]
    assert await gather([]) == []


async def test_of_many_items_few_are_begun_and_the_first_failure_begins_no_more() -> None:
    begun, running, most = 0, 0, 0

    async def work(item: int) -> int:
        nonlocal begun, running, most
        begun, running = begun + 1, running + 1
        most = max(most, running)
        await asyncio.sleep(0.001 * (item % 3))
        running -= 1
        return await failing() if item == 50 else -item

    assert await bounded_gather(work, range(40), 4) == [-item for item in range(40)]
    assert await bounded_gather(work, [], 4) == []
    assert (begun, most) == (40, 4)
    with pytest.raises(QueueFull, match="full"):
        await bounded_gather(work, range(100), 4)
    assert begun < 40 + 100
    assert await bounded_gather(work, range(3), 100) == [0, -1, -2]


async def test_the_first_failure_ends_the_others_and_is_raised_as_it_is() -> None:
    slow = SlowToEnd()
    with pytest.raises(QueueFull, match="full"):
        await gather([slow.run(), failing()])
    assert slow.ended


async def test_a_cancellation_ends_them_all() -> None:
    slow = SlowToEnd()
    task = asyncio.create_task(gather([slow.run(), number(1)]))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert slow.ended


async def test_a_cancellation_is_obeyed_while_one_of_them_fails() -> None:
    task = asyncio.create_task(gather([SlowToEnd().run(), failing()]))
    await asyncio.sleep(0.01)  # the failure waits for the other one to end
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("fails", [False, True])
async def test_what_runs_beside_a_block_has_ended_after_it(fails: bool) -> None:
    slow = SlowToEnd()
    with nullcontext() if not fails else pytest.raises(QueueFull):
        async with beside(follow(slow)):
            await asyncio.sleep(0)
            assert not slow.ended
            if fails:
                await failing()
    assert slow.ended


@pytest.mark.parametrize("fails", [False, True])
async def test_context_managers_are_left_side_by_side_and_all_to_their_end(fails: bool) -> None:
    leaving, left = asyncio.Barrier(3), list[int]()

    @asynccontextmanager
    async def each(number: int) -> AsyncIterator[int]:
        yield number
        await leaving.wait()
        if fails and number == 0:
            await failing()
        await asyncio.sleep(0.01)
        left.append(number)

    async with asyncio.timeout(30):
        with pytest.raises(QueueFull) if fails else nullcontext():
            async with ParallelStack() as stack:
                assert [await stack.enter(each(number)) for number in range(3)] == [0, 1, 2]
    assert sorted(left) == ([1, 2] if fails else [0, 1, 2])


async def test_what_was_entered_is_left_where_another_cannot_be_entered() -> None:
    slow = SlowToEnd()

    async def enter_both() -> None:
        async with ParallelStack() as stack:
            await stack.enter(beside(follow(slow)))
            await asyncio.sleep(0)
            await stack.enter(unable())

    with pytest.raises(QueueFull):
        await enter_both()
    assert slow.ended


async def test_a_refused_batch_of_many_reads_asks_for_no_more() -> None:
    engine, admission = fake_engine(capacity=64, max_queued=8)
    question = Question("What?", ("alpha", "beta", "gamma", "delta"), True)
    classifier = zero_shot(engine, question)
    held = await admission.acquire(internal_context("others", 30.0), Demand(1, 1, 64))
    enter_context(internal_context("test", 0.5))
    inputs, options = [f"text {number}" for number in range(256)], ResultOptions(multi_label=True)
    with pytest.raises(ServiceError):
        async for _ in classify_batch(classifier, inputs, options, 64):
            pass
    assert engine.raw.starts < 4 * len(inputs)
    assert admission.queued == 0
    held.release()
