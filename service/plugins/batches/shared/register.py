"""Register of all batches in a Redis or Valkey, with their leases."""

import time
from collections.abc import Callable
from typing import Any

from service.plugins.batches.records import Batch
from service.plugins.batches.shared.lease import SharedLease
from service.plugins.batches.shared.records import ROOT, SharedRecords
from service.plugins.batches.shared.scripts import FORGET


class SharedRegister:
    """Batches of all tenants; implements `batches.store.Register`.

    `clock` gives seconds since 1970.
    """

    def __init__(self, records: SharedRecords, clock: Callable[[], float] = time.time) -> None:
        self._records = records
        self._clock = clock

    async def take(self, batch_id: str) -> SharedLease | None:
        return await SharedLease.take(self._records, batch_id, self._clock)

    async def unfinished(self) -> list[Batch]:
        return await self._records.batches(await self._first("unfinished"))

    async def latest(self, limit: int) -> list[Batch]:
        running = await self._first("unfinished", limit)
        ended = await self._first("ended", limit, desc=True)
        return await self._records.batches([*running, *ended])

    async def newest(self, limit: int) -> list[Batch]:
        found = [
            *await self._first("unfinished", limit, desc=True, withscores=True),
            *await self._first("ended", limit, desc=True, withscores=True),
        ]
        found.sort(key=lambda pair: -pair[1])
        return await self._records.batches([name for name, _ in found[:limit]])

    async def find(self, batch_id: str) -> Batch | None:
        found = await self._records.batches([batch_id])
        return found[0] if found else None

    async def forget(self, keep_seconds: int) -> tuple[list[str], set[str], set[str]]:
        now = int(self._clock())
        answer = await self._records.run(FORGET, now, now - keep_seconds)
        removed, files, running = (text.decode().split() for text in answer)
        return removed, set(files), set(running)

    async def close(self) -> None:
        await self._records.close()

    async def _first(self, kind: str, limit: int = 0, **options: Any) -> list[Any]:
        """The first ids of a sorted set, all without a limit."""
        key = f"{ROOT}{kind}"
        found: list[Any] = await self._records.ask(
            lambda client: client.zrange(key, 0, limit - 1, **options)
        )
        return found
