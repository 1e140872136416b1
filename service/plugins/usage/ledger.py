"""Ledger of usage: counted in memory as requests end, and written every second."""

import asyncio
import logging
import time
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from service.common.aio import beside, shielded
from service.common.operations import OPERATIONS
from service.context import Ending, RequestContext
from service.errors import ServiceError
from service.plugins.usage.stores import (
    SECONDS,
    Amounts,
    Batch,
    Kind,
    Question,
    UsageRow,
    UsageStore,
)

_log = logging.getLogger(__name__)

_WRITE_SECONDS = 1.0
_FORGET_SECONDS = 3600.0
_NO_KEY = 401


class Ledger:
    """Counts usage in memory, and writes the counts to a store.

    A killed process loses the requests that ended in its last second. While the store cannot be
    reached the counts are kept in memory. `clock` is seconds since 1970.
    """

    def __init__(
        self, store: UsageStore, keep_days: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._store = store
        self._keep_seconds = keep_days * SECONDS["day"]
        self._clock = clock
        self._counted: dict[tuple[int, Kind], Amounts] = defaultdict(Amounts)
        self._unwritten: Batch | None = None
        self._writing = asyncio.Lock()
        self._failed = False
        self._forgot = -_FORGET_SECONDS

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return int(self._clock())

    def answered(self, context: RequestContext, ending: Ending) -> None:
        """Count a request that ended, if its route asks the engine and its key was accepted."""
        if OPERATIONS.get(context.route) is None or ending.status == _NO_KEY:
            return
        adapter = "" if context.adapter is None else context.adapter.name
        kind = Kind(context.tenant.name, context.model, adapter, context.route, str(context.tier))
        self._counted[self.now // SECONDS["hour"], kind].add(
            Amounts(
                1,
                int(ending.outcome == "refused"),
                int(ending.missed is not None),
                int(ending.missed is not None and not ending.missed),
                context.tokens.prompt,
                context.tokens.cached,
                context.tokens.completion,
            )
        )

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Write counts regularly while the block runs, and once more at its end."""
        try:
            async with beside(self._run()):
                yield
        finally:
            await self._try_to_write()
            await self._store.close()

    async def read(self, question: Question) -> list[UsageRow]:
        """The rows of these periods, up to this moment; raises as the store."""
        await self.write()
        return await self._store.read(question)

    async def write(self) -> None:
        """Write the counts; raises as the store, and the next call tries them again.

        After an error it is unknown whether a batch was written. So the same batch is written again
        before newer counts, and the store recognises it by its id.
        """
        async with self._writing:
            if self._unwritten is not None:
                await shielded(self._add(self._unwritten))
            if self._counted:
                taken, self._counted = self._counted, defaultdict(Amounts)
                self._unwritten = Batch(uuid.uuid4().hex, taken)
                await shielded(self._add(self._unwritten))

    async def _add(self, batch: Batch) -> None:
        await self._store.add(batch)
        self._unwritten = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_WRITE_SECONDS)
            await self._try_to_write()
            if time.monotonic() >= self._forgot + _FORGET_SECONDS:
                self._forgot = time.monotonic()
                await self._forget()

    async def _try_to_write(self) -> None:
        try:
            await self.write()
        except ServiceError as error:
            if not self._failed:
                _log.error("usage cannot be written; it is kept and tried again: %s", error)
            self._failed = True
        else:
            if self._failed:
                _log.info("usage is written again")
            self._failed = False

    async def _forget(self) -> None:
        oldest = (self.now - self._keep_seconds) // SECONDS["hour"]
        try:
            await self._store.forget(oldest)
        except ServiceError as error:
            _log.error("old usage cannot be removed; it is tried again: %s", error)
