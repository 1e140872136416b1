"""Interruption, from outside, of the waits of one task."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

Result = TypeVar("Result")


class Interruption:
    """Ends the waits of one task, the one under way and those to come, once triggered.

    `asyncio.timeout` may not span the yields of a generator and costs a timer for every wait; this
    costs two assignments.
    """

    def __init__(self) -> None:
        self._error: Exception | None = None
        self._waiting: asyncio.Task[object] | None = None

    @property
    def waiting(self) -> bool:
        """True while a wait is under way."""
        return self._waiting is not None

    async def wait(self, step: Callable[[], Awaitable[Result]]) -> Result:
        """Take a step and await it; raises the error of `trigger`, called before or meanwhile."""
        # Cancelling would be too late for a step that does not suspend: it would return its item,
        # and a later await of the task would be cancelled instead.
        if self._error:
            raise self._error
        task = asyncio.current_task()
        assert task is not None
        self._waiting, cancelling = task, task.cancelling()
        try:
            return await step()
        except asyncio.CancelledError:
            if self._error and task.uncancel() <= cancelling:
                raise self._error from None
            raise
        finally:
            self._waiting = None

    def trigger(self, error: Exception) -> None:
        """End the waits with this error; the first one counts."""
        if self._error is not None:
            return
        self._error = error
        if self._waiting is not None:
            self._waiting.cancel()
