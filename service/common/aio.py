"""Concurrent coroutines: gathered, run beside a block, or shielded from cancellation."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

Item = TypeVar("Item")
Value = TypeVar("Value")

_LEAST_SLOTS = 4


async def gather(coroutines: Iterable[Coroutine[Any, Any, Value]]) -> list[Value]:
    """The coroutines' results, in order; the first failure cancels the others and is raised.

    A cancellation is raised even if a coroutine fails at the same time: `asyncio.TaskGroup` and
    `asyncio.gather` then raise the failure, and the cancelled caller continues.
    """
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    if not tasks:
        return []
    for task in tasks:
        task.add_done_callback(_seen)
    try:
        first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
    for task in tasks:
        if task in first and not task.cancelled() and (error := task.exception()) is not None:
            raise error
    return [task.result() for task in tasks]


async def both(
    first: Coroutine[Any, Any, Item], second: Coroutine[Any, Any, Value]
) -> tuple[Item, Value]:
    """The results of two coroutines; raises as `gather`."""
    coroutines: list[Coroutine[Any, Any, Any]] = [first, second]
    one, two = await gather(coroutines)
    return one, two


async def bounded_gather(
    work: Callable[[Item], Coroutine[Any, Any, Value]], items: Sequence[Item], most: int
) -> list[Value]:
    """The results of the work on each item, in order, with at most `most` items begun at a time.

    Raises as `gather`. A task for every item would mean that a cancellation ends thousands of tasks
    in one turn of the loop.
    """
    results: dict[int, Value] = {}
    waiting = iter(enumerate(items))

    async def worker() -> None:
        for index, item in waiting:
            results[index] = await work(item)

    await gather([worker() for _ in range(min(most, len(items)))])
    return [results[index] for index in range(len(items))]


def slots_for(most: int, inputs: int) -> int:
    """Engine requests that a request of so many inputs may have waiting or running at one time.

    One for each input, but at least four, because one input may take several reads; and never more
    than `most`, the number that the engine runs at once.
    """
    return min(most, max(_LEAST_SLOTS, inputs))


@asynccontextmanager
async def beside(coroutine: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a coroutine while the block runs; at the block's end it is cancelled and awaited."""
    task = asyncio.create_task(coroutine)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


class ParallelStack:
    """An AsyncExitStack that exits all its context managers at once, without passing an exception.

    When all have exited, the first error of an exit is raised.
    """

    def __init__(self) -> None:
        self._entered: list[AsyncExitStack] = []

    async def __aenter__(self) -> "ParallelStack":
        return self

    async def __aexit__(self, *_: object) -> None:
        left = await asyncio.gather(
            *(each.aclose() for each in self._entered), return_exceptions=True
        )
        for error in left:
            if error is not None:
                raise error

    async def enter(self, manager: AbstractAsyncContextManager[Value]) -> Value:
        """Enter a context manager, to exit it at the block's end; raises what its entry raises."""
        async with AsyncExitStack() as stack:
            value = await stack.enter_async_context(manager)
            self._entered.append(stack.pop_all())
        return value


async def shielded(work: Coroutine[Any, Any, Value]) -> Value:
    """The result of work that a cancellation of the caller must not stop half-way.

    A thread cannot be cancelled, so cancelling its caller would skip only the steps that follow the
    thread. Therefore a cancelled caller waits until the work has ended. A second cancellation ends
    this wait, and the work continues without the caller.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(_seen)
        await asyncio.wait([task])
        raise


def _seen(task: asyncio.Task[Any]) -> None:
    """Retrieve a task's exception, which asyncio would log as lost: another error is raised."""
    if not task.cancelled():
        task.exception()
