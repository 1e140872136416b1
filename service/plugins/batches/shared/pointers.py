"""Pointers in a Redis or Valkey to the files that a bucket has."""

import time
from collections.abc import Collection
from typing import Any

from service.plugins.batches.disk import ORPHAN_SECONDS
from service.plugins.batches.shared.records import ROOT, SharedRecords

_KEY = f"{ROOT}pointers"


class SharedPointers:
    """A field for each pointer, with the time at which it was kept; implements
    `batches.pointers.Pointers`.
    """

    def __init__(self, records: SharedRecords) -> None:
        self._records = records

    async def point(self, file_id: str, address: str) -> None:
        value = f"{int(time.time())} {address}"
        await self._records.ask(lambda client: client.hset(_KEY, file_id, value))

    async def address_of(self, file_id: str) -> str | None:
        value = await self._records.ask(lambda client: client.hget(_KEY, file_id))
        return None if value is None else value.decode().partition(" ")[2]

    async def forget(self, file_id: str) -> None:
        await self._records.ask(lambda client: client.hdel(_KEY, file_id))

    async def orphans(self, known: Collection[str]) -> list[str]:
        oldest = time.time() - ORPHAN_SECONDS

        async def old(client: Any) -> list[str]:
            return [
                file_id.decode()
                async for file_id, value in client.hscan_iter(_KEY)
                if int(value.partition(b" ")[0]) < oldest
            ]

        return [file_id for file_id in await self._records.ask(old) if file_id not in known]
