"""Ledger of usage: counted in memory as requests end, and written every second."""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import astuple
from pathlib import Path
from sqlite3 import Connection

from service.context import Ending, RequestContext
from service.database import Database
from service.errors import ServiceError
from service.local_disk import make_local
from service.operations import OPERATIONS
from service.usage.row import SECONDS, Amounts, Kind, Question, UsageRow

_log = logging.getLogger(__name__)

DATABASE = "usage.sqlite3"
_FIRST = """
CREATE TABLE usage (
    hour INTEGER NOT NULL,
    tenant TEXT NOT NULL,
    model TEXT NOT NULL,
    adapter TEXT NOT NULL,
    route TEXT NOT NULL,
    service_tier TEXT NOT NULL,
    requests INTEGER NOT NULL,
    refused INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL,
    cached_tokens INTEGER NOT NULL,
    completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (tenant, hour, model, adapter, route, service_tier)
) WITHOUT ROWID
"""
_WITH_OBJECTIVES = """
ALTER TABLE usage ADD COLUMN with_objectives INTEGER NOT NULL DEFAULT 0;
ALTER TABLE usage ADD COLUMN objectives_kept INTEGER NOT NULL DEFAULT 0
"""
_ADD = """
INSERT INTO usage (
    hour, tenant, model, adapter, route, service_tier, requests, refused,
    with_objectives, objectives_kept, prompt_tokens, cached_tokens, completion_tokens
) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET
    requests = requests + excluded.requests,
    refused = refused + excluded.refused,
    with_objectives = with_objectives + excluded.with_objectives,
    objectives_kept = objectives_kept + excluded.objectives_kept,
    prompt_tokens = prompt_tokens + excluded.prompt_tokens,
    cached_tokens = cached_tokens + excluded.cached_tokens,
    completion_tokens = completion_tokens + excluded.completion_tokens
"""
_READ = """
SELECT hour * 3600 / ? * ? AS start, tenant, model, adapter, route, service_tier,
    SUM(requests), SUM(refused), SUM(with_objectives), SUM(objectives_kept),
    SUM(prompt_tokens), SUM(cached_tokens), SUM(completion_tokens)
FROM usage WHERE hour >= ? AND hour < ? AND (? IS NULL OR tenant = ?)
GROUP BY start, tenant, model, adapter, route, service_tier
ORDER BY start, tenant, model, adapter, route, service_tier LIMIT ?
"""
_WRITE_SECONDS = 1.0
_FORGET_SECONDS = 3600.0
_NO_KEY = 401


class Ledger:
    """Counts of usage below a folder, which processes of one machine may share.

    A killed process loses the requests that ended in its last second. `clock` is seconds since
    1970. Raises ConfigurationError for a folder that cannot be used.
    """

    def __init__(
        self, folder: Path, keep_days: int, clock: Callable[[], float] = time.time
    ) -> None:
        make_local("usage.path", folder)
        self._database = Database(folder / DATABASE, (_FIRST, _WITH_OBJECTIVES))
        self._keep_seconds = keep_days * SECONDS["day"]
        self._clock = clock
        self._unwritten: dict[tuple[int, Kind], Amounts] = defaultdict(Amounts)
        self._writing = asyncio.Lock()
        self._forgot = -_FORGET_SECONDS

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return int(self._clock())

    def answered(
        self, context: RequestContext, ending: Ending, missed: Collection[str] | None
    ) -> None:
        """Count a request that ended, if its route asks the engine and its key was accepted.

        `missed` are the objectives that it missed; None for a request that has none.
        """
        if OPERATIONS.get(context.route) is None or ending.status == _NO_KEY:
            return
        adapter = "" if context.adapter is None else context.adapter.name
        kind = Kind(context.tenant.name, context.model, adapter, context.route, str(context.tier))
        self._unwritten[self.now // SECONDS["hour"], kind].add(
            Amounts(
                1,
                int(ending.outcome == "refused"),
                int(missed is not None),
                int(missed is not None and not missed),
                context.prompt_tokens,
                context.cached_tokens,
                context.completion_tokens,
            )
        )

    @asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Write what is counted while the block runs, and at its end."""
        task = asyncio.create_task(self._run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            await self._try_to_write()
            self.close()

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    async def read(self, question: Question) -> list[UsageRow]:
        """The rows of these periods, up to this moment; raises as `Database.run`."""
        await self.write()
        seconds, hour = SECONDS[question.period], SECONDS["hour"]
        values = (
            *(seconds, seconds, -(-question.start // hour), -(-question.end // hour)),
            *(question.tenant, question.tenant, question.limit),
        )
        rows = await self._database.run(lambda c: c.execute(_READ, values).fetchall())
        return [UsageRow(row[0], Kind(*row[1:6]), Amounts(*row[6:])) for row in rows]

    async def write(self) -> None:
        """Write the counts; counts that cannot be written are kept for the next time."""
        async with self._writing:
            taken, self._unwritten = self._unwritten, defaultdict(Amounts)
            if not taken:
                return

            def add(connection: Connection) -> None:
                rows = [
                    (hour, *astuple(kind), *astuple(each)) for (hour, kind), each in taken.items()
                ]
                connection.executemany(_ADD, rows)

            # Shielded: a cancelled reader must still learn whether the counts were written.
            adding = asyncio.ensure_future(self._database.run(add))
            try:
                await asyncio.shield(adding)
            except asyncio.CancelledError:
                await asyncio.wait([adding])
                self._keep(taken, adding.exception())
                raise
            except ServiceError:
                self._keep(taken, adding.exception())
                raise

    def _keep(self, taken: dict[tuple[int, Kind], Amounts], error: BaseException | None) -> None:
        """Put counts that could not be written back."""
        if error is not None:
            for key, amounts in taken.items():
                self._unwritten[key].add(amounts)

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
            _log.error("usage cannot be written; it is kept and tried again: %s", error)

    async def _forget(self) -> None:
        oldest = (self.now - self._keep_seconds) // SECONDS["hour"]
        try:
            await self._database.run(
                lambda c: c.execute("DELETE FROM usage WHERE hour < ?", (oldest,))
            )
        except ServiceError as error:
            _log.error("old usage cannot be removed; it is tried again: %s", error)
