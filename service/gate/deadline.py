"""One timer over many waits."""

import asyncio
from collections.abc import Awaitable
from typing import TypeVar

Result = TypeVar("Result")


class DeadlineTimer:
    """Ends whatever waits in it when its time has passed.

    `asyncio.timeout` may not span the yields of a generator and costs a timer for every wait; this
    one is set once for a stream of thousands.
    """

    def __init__(self, seconds: float) -> None:
        self._passed = False
        self._waiting: asyncio.Task[object] | None = None
        self._timer = asyncio.get_running_loop().call_later(seconds, self._pass)

    async def wait(self, awaitable: Awaitable[Result]) -> Result:
        """Await; TimeoutError if the time has passed or passes meanwhile."""
        task = asyncio.current_task()
        assert task is not None
        self._waiting, cancelling = task, task.cancelling()
        try:
            if self._passed:
                task.cancel()
            return await awaitable
        except asyncio.CancelledError:
            if self._passed and task.uncancel() <= cancelling:
                raise TimeoutError from None
            raise
        finally:
            self._waiting = None

    def close(self) -> None:
        """Forget the deadline."""
        self._timer.cancel()

    def _pass(self) -> None:
        self._passed = True
        if self._waiting is not None:
            self._waiting.cancel()
