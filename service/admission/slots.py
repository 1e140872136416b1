"""The slots of a running request, which it holds until it ends, is interrupted or cut."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.admission.queued_request import TOKENS_PER_SECOND, QueuedRequest
from service.admission.scheduler import Scheduler
from service.errors import ServiceError

Result = TypeVar("Result")


class Charges:
    """Collects the output tokens of one iteration of the event loop, to charge them together.

    One iteration handles a whole engine step, which has tokens for many streams; one charge for all
    of them is much cheaper than a charge for each.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self._made: list[tuple[QueuedRequest, int]] = []

    def add(self, request: QueuedRequest, tokens: int) -> None:
        """Charge new output tokens of a running request, at the end of this turn."""
        if not self._made:
            asyncio.get_running_loop().call_soon(self.settle)
        self._made.append((request, tokens))

    def settle(self) -> None:
        """Charge the tokens that were collected."""
        if self._made:
            made, self._made = self._made, []
            self.scheduler.charge_step(made)


class Preempted(Exception):
    """The stream was ended to give its slots to interactive work, and has to start again."""


class HeldSlots:
    """The slots of one running request, which may be interrupted or cut."""

    def __init__(
        self,
        charges: Charges,
        request: QueuedRequest,
        on_release: Callable[[QueuedRequest], None],
    ) -> None:
        self.cut: Callable[[], bool] | None = None
        """Ends the stream with the text that it has; False if it has none yet."""
        self._charges = charges
        self._request = request
        self._on_release = on_release
        self._released = False
        self._error: Exception | None = None
        self._waiting: asyncio.Task[object] | None = None

    async def wait(self, work: Callable[[], Awaitable[Result]]) -> Result:
        """Await `work()`; raises the error passed to `interrupt`, before or during the wait.

        `asyncio.timeout` would cost a timer for every request.
        """
        # Cancelling would be too late for work that does not suspend: it would return its result,
        # and a later await of the task would be cancelled instead.
        if self._error:
            raise self._error
        task = asyncio.current_task()
        assert task is not None
        self._waiting, cancelling = task, task.cancelling()
        try:
            return await work()
        except asyncio.CancelledError:
            if self._error and task.uncancel() <= cancelling:
                raise self._error from None
            raise
        finally:
            self._waiting = None

    def charge(self, prompt: int, cached: int, output: int, engine_wait: float | None) -> None:
        """Report the totals so far, as `Scheduler.charge`."""
        self._charges.settle()
        self._charges.scheduler.charge(
            self._request, prompt=prompt, cached=cached, output=output, engine_wait=engine_wait
        )

    def count(self, tokens: int) -> None:
        """Charge new output tokens, with those that other streams get in this turn of the loop."""
        self._charges.add(self._request, tokens)

    def charge_seconds(self, seconds: float) -> None:
        """Charge seconds of a CPU core that the engine spent on this stream alone."""
        request = self._request
        self._charges.scheduler.debit(request.tenant, request.weight, seconds * TOKENS_PER_SECOND)

    @property
    def above_share(self) -> bool:
        """True if the tenant holds more slots than its share, and this is not background work."""
        return self._charges.scheduler.above_share(self._request)

    def interrupt(self, error: ServiceError | Preempted) -> None:
        """End the stream with this error, now or when its wait begins; the first call counts."""
        if self._error is not None:
            return
        self._error = error
        if self._waiting is not None:
            self._waiting.cancel()

    def release(self) -> None:
        """Give the slots back; a second call does nothing."""
        if not self._released:
            self._released = True
            self.cut = None
            self._charges.settle()
            self._on_release(self._request)
