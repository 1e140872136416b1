"""Fair turns for the work before admission: tokenising, rendering, building, compiling."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, TypeVar

from service.admission.controller import AdmissionController
from service.admission.fair_queue import FairQueue
from service.admission.load_shedding import refusal_of_full_queue
from service.admission.queued_request import TOKENS_PER_SECOND, QueuedRequest
from service.context import current_context
from service.errors import DeadlineExceeded
from service.settings.admission import PreparationSettings
from service.tenants.tenant import SERVICE, Tenant

Result = TypeVar("Result")

_BYTES_PER_TOKEN = 256
"""Bytes that cost as much as one prompt token: tokenising them takes 0.1 ms of one core,
about as long as a fast accelerator takes for a prompt token."""

BYTES_PER_SECOND = int(_BYTES_PER_TOKEN * TOKENS_PER_SECOND)
"""Bytes that a second of a core counts as; a tokeniser reads two to three times as many."""

_QUEUE = "The queue for tokenising and compiling"
_RETRY_S = 1.0


@dataclass(slots=True, eq=False)
class WorkItem:
    """One piece of work: its tenant, its size in bytes, and the CPU seconds that it took."""

    tenant: Tenant
    size: int
    seconds: float = 0.0

    @property
    def cost(self) -> float:
        """The size in bytes, or the work's seconds converted to bytes if that is more."""
        return max(self.size, self.seconds * BYTES_PER_SECOND)

    def do(self, work: Callable[[], Result]) -> Result:
        """Run `work` and record its seconds; raises the work's errors."""
        started = time.perf_counter()
        try:
            return work()
        finally:
            self.seconds = time.perf_counter() - started


class FairThreadPool:
    """A bounded number of lanes; the tenant that has used least gets the next free lane.

    The order is that of `FairQueue`, in bytes. A tenant holds at most all lanes but one, so one
    tenant's long work never blocks all others. At most `max_waiting` pieces wait; new tenants are
    treated as in the engine's queue. All work is also charged to the tenant's counter in that
    queue, even if its request fails later. Belongs to one event loop.
    """

    def __init__(self, admission: AdmissionController, lanes: int, max_waiting: int) -> None:
        self.lanes = lanes
        self._admission = admission
        self._max_waiting = max_waiting
        self._queue = FairQueue(most_each=max(1, lanes - 1))
        self._waiting: dict[QueuedRequest, asyncio.Future[None]] = {}

    @property
    def waiting(self) -> int:
        """Pieces of work that wait for a lane."""
        return len(self._waiting)

    def do(self, size: int, work: Callable[[], Result]) -> Result:
        """Run short work on `size` bytes immediately, without a lane; raises the work's errors."""
        turn = WorkItem(current_context().tenant, size)
        try:
            return turn.do(work)
        finally:
            self._queue.debit(turn.tenant.name, turn.tenant.weight, turn.cost)
            self._admission.debit(turn.tenant, turn.cost / _BYTES_PER_TOKEN)

    async def run(
        self, size: int, work: Callable[[WorkItem], Coroutine[Any, Any, Result]]
    ) -> Result:
        """Run `work` on `size` bytes in a lane, in the tenant's turn; raises the work's errors.

        The lane is held until the work has ended, even if the caller is cancelled earlier. Raises
        TooManyRequests or QueueFull at once when too much waits, DeadlineExceeded when the
        request's deadline passes before the turn.
        """
        turn = WorkItem(current_context().tenant, size)
        request = await self._enter(turn)
        task = asyncio.create_task(work(turn))
        task.add_done_callback(lambda done: self._end(done, request, turn))
        return await asyncio.shield(task)

    def _end(self, done: "asyncio.Task[Result]", request: QueuedRequest, turn: WorkItem) -> None:
        if not done.cancelled():
            done.exception()  # retrieved, although no caller may wait for it any more
        self._leave(request, turn)

    async def _enter(self, turn: WorkItem) -> QueuedRequest:
        name, weight = turn.tenant.name, turn.tenant.weight
        now = time.monotonic()
        request = QueuedRequest(name, turn.size, 0, arrival=now, weight=weight)
        self._queue.tick(now)
        if self._waiting and turn.tenant is not SERVICE:
            self._check_room(request, turn)
        self._queue.push(request, turn.size)
        future = self._waiting[request] = asyncio.get_running_loop().create_future()
        self._advance()
        if future.done():
            return request
        try:
            async with asyncio.timeout(current_context().remaining()):
                await future
        except BaseException as error:
            self._give_up(request, turn)
            if isinstance(error, TimeoutError):
                raise DeadlineExceeded(
                    "The deadline passed while the request waited to be tokenised or compiled."
                ) from None
            raise
        return request

    def _check_room(self, request: QueuedRequest, turn: WorkItem) -> None:
        refusal = refusal_of_full_queue(
            self._queue.backlog(request), self._max_waiting, _RETRY_S, _QUEUE
        )
        if refusal is not None:
            self._admission.debit(turn.tenant, turn.size / _BYTES_PER_TOKEN)
            raise refusal

    def _leave(self, request: QueuedRequest, turn: WorkItem) -> None:
        """Charge finished work, and start the next."""
        self._queue.charge(request, prompt=round(turn.cost))
        self._admission.debit(turn.tenant, turn.cost / _BYTES_PER_TOKEN)
        self._queue.finish(request)
        self._advance()

    def _give_up(self, request: QueuedRequest, turn: WorkItem) -> None:
        """Remove the work of a caller that no longer waits."""
        if request not in self._waiting:  # its turn had come
            self._leave(request, WorkItem(turn.tenant, 0))
            return
        del self._waiting[request]
        self._queue.cancel(request)

    def _advance(self) -> None:
        while (request := self._queue.pop(self.lanes)) is not None:
            future = self._waiting.pop(request)
            if not future.done():  # else cancelled; its task has yet to run and leave
                future.set_result(None)


SHORT = 1024
"""Bytes that are tokenised in less than a millisecond; waking a thread would cost as much."""


class Preparation:
    """Tokenises in fair turns (`FairThreadPool`): long text in a thread, short text on the loop."""

    def __init__(self, admission: AdmissionController, settings: PreparationSettings) -> None:
        self._admission = admission
        self._stage = FairThreadPool(admission, settings.threads, settings.max_waiting)
        self._threads = ThreadPoolExecutor(settings.threads, thread_name_prefix="preparation")

    async def run(self, size: int, work: Callable[[], Result]) -> Result:
        """The result of work on so many bytes. Raises as the work and `FairThreadPool.run` do."""
        if size < SHORT and not self._stage.waiting:
            await asyncio.sleep(0)  # batches what requests that arrived together do
            done = self._stage.do(size, work)
            await asyncio.sleep(0)
            return done
        return await self._stage.run(size, lambda turn: self._do(turn, work))

    async def run_prompt(self, size: int, work: Callable[[], Result]) -> Result:
        """Run work as `run` does, for the current request's prompt.

        Raises at once as `AdmissionController.refuse_early`.
        """
        self._admission.refuse_early(current_context())
        return await self.run(size, work)

    def stop(self) -> None:
        """Drop the work that has not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _do(self, turn: WorkItem, work: Callable[[], Result]) -> Result:
        if turn.size < SHORT:
            return turn.do(work)
        in_context = copy_context().run  # the work may ask for the request
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, in_context, turn.do, work)
