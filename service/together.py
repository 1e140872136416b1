"""Coroutines that run at once, of which every result is needed."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Value = TypeVar("Value")


async def together(coroutines: Iterable[Coroutine[Any, Any, Value]]) -> list[Value]:
    """Their results, in order; the first that fails cancels the others and is raised as it is.

    Whoever cancels this is obeyed, also while one of them fails: `asyncio.TaskGroup` and
    `asyncio.gather` raise the failure then, and their caller goes on as if nobody had cancelled it.
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


def _seen(task: asyncio.Task[Any]) -> None:
    """Where another failure or a cancellation is raised, asyncio shall not log this one as lost."""
    if not task.cancelled():
        task.exception()
