"""Runner of all batches: answers one batch of each tenant at a time, under its lease."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from service.errors import Unavailable
from service.plugins.batches.run import BatchRun, RunContext
from service.plugins.batches.store import Batch, Lease, LeaseLost, Status

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
AFTER_FAILURE_SECONDS = 30.0
_SWEEP_SECONDS = 600.0


class _Running(NamedTuple):
    """A running batch; `ends` is true if it was started only to be ended."""

    tenant: str
    ends: bool


class Runner:
    """Runs batches, the oldest of each tenant first, and removes expired files and batches.

    Several processes may share a store. Each process works on at most one batch of a tenant at a
    time, and holds that batch's lease. Meanwhile it ends cancelled and expired batches.
    """

    def __init__(self, context: RunContext) -> None:
        self._context = context
        self._store = context.store
        self._runs: dict[str, _Running] = {}
        self._rests: dict[str, float] = {}
        self._failed: dict[str, float] = {}
        self._tasks = set[asyncio.Task[None]]()
        self._wake = asyncio.Event()
        self._swept = -_SWEEP_SECONDS

    def wake(self) -> None:
        """Look for batches at once."""
        self._wake.set()

    async def run(self) -> None:
        """Run batches; never returns. When it is cancelled, batches stop where they are."""
        try:
            while True:
                self._wake.clear()
                pause = LOOK_SECONDS
                try:
                    await self._look()
                except Exception as error:
                    pause = AFTER_FAILURE_SECONDS
                    _log_error(error, "the list of batches cannot be read; trying again")
                with suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._wake.wait()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await asyncio.gather(*self._tasks)  # tasks that release the leases

    async def _look(self) -> None:
        now = time.monotonic()
        if now >= self._swept + _SWEEP_SECONDS:
            self._swept = now
            self._start(self._sweep())
        batches = await self._store.unfinished()
        self._show(batches)
        for batch in batches:
            if batch.id in self._runs or not self._has_slot(batch) or self._waits(batch, now):
                continue
            if (lease := await self._store.take(batch.id)) is not None:
                self._runs[batch.id] = _Running(batch.tenant, self._only_ends(batch))
                run = BatchRun(batch, lease, self._context)
                task = self._start(self._run(batch, run))
                # Not in a `finally` of the task, which does not run if the task never begins.
                task.add_done_callback(partial(self._release, batch, lease))

    def _start(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _run(self, batch: Batch, run: BatchRun) -> None:
        try:
            if rest := await run.run():
                self._rests[batch.tenant] = time.monotonic() + rest
            self._failed.pop(batch.id, None)
        except LeaseLost:
            _log.warning("batch %s of %s: its lease ended here", batch.id, batch.tenant)
        except Exception as error:
            self._failed[batch.id] = time.monotonic() + AFTER_FAILURE_SECONDS
            _log_error(error, f"batch {batch.id} of {batch.tenant} failed; it is tried again")

    def _has_slot(self, batch: Batch) -> bool:
        """True if one more batch of this kind may run.

        At most `max_running` batches are answered at once, one of each tenant, and as many are
        ended.
        """
        ends = self._only_ends(batch)
        alike = [each for each in self._runs.values() if each.ends == ends]
        own = not ends and any(each.tenant == batch.tenant for each in alike)
        return len(alike) < self._context.settings.max_running and not own

    def _only_ends(self, batch: Batch) -> bool:
        """True for a batch that was cancelled or has expired, so that no more lines are sent."""
        return batch.status is Status.CANCELLING or self._context.now >= batch.expires_at

    def _waits(self, batch: Batch, now: float) -> bool:
        """True for a batch that cannot run now; a batch that only has to end does not rest."""
        if now < self._failed.get(batch.id, 0.0):
            return True
        if batch.status is not Status.IN_PROGRESS or self._only_ends(batch):
            return False
        return now < self._rests.get(batch.tenant, 0.0) or not self._context.tenant(batch.tenant)

    def _release(self, batch: Batch, lease: Lease, task: "asyncio.Task[None]") -> None:
        del self._runs[batch.id]

        async def release() -> None:
            await lease.release()
            self._wake.set()

        self._start(release())

    def _show(self, batches: Sequence[Batch]) -> None:
        """Export counts and ages; only a tenant's oldest batch, which runs first, can be idle."""
        now = self._context.now
        counts = Counter(batch.status for batch in batches)
        first = {batch.tenant: batch for batch in reversed(batches)}.values()
        self._context.metrics.unfinished(
            counts,
            oldest_seconds=max((now - batch.created_at for batch in batches), default=0),
            idle_seconds=max((now - batch.moved_at for batch in first), default=0),
        )

    async def _sweep(self) -> None:
        """Remove what is too old; a task of its own, since a bucket may take long to answer."""
        try:
            keep_seconds = self._context.settings.keep_days * 86_400
            removed, files, running = await self._store.expire(keep_seconds)
            await self._context.folder.remove(*removed)
            await self._context.folder.sweep(files, running)
        except Exception as error:
            _log_error(error, "old files are not removed, and are tried again")


def _log_error(error: Exception, message: str) -> None:
    """Log an error, with its traceback unless a store cannot be reached."""
    _log.error("%s: %s", message, error, exc_info=not isinstance(error, Unavailable))
