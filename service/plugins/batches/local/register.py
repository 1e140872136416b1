"""Register of all batches in SQLite, with leases in a folder."""

import time
from collections.abc import Callable
from sqlite3 import Connection

from service.common.database import Database
from service.plugins.batches.folder import Folder
from service.plugins.batches.local.journal import LocalJournal
from service.plugins.batches.local.lease import LocalLease
from service.plugins.batches.local.tables import (
    IS_UNFINISHED,
    batches_where,
    drop_expired,
    files_where,
)
from service.plugins.batches.records import Batch


class LocalRegister:
    """Batches of all tenants; implements `batches.store.Register`.

    `clock` gives seconds since 1970.
    """

    def __init__(
        self, database: Database, folder: Folder, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._folder = folder
        self._clock = clock

    async def take(self, batch_id: str) -> LocalLease | None:
        journal = LocalJournal(self._database, self._folder.database, batch_id, self._clock)
        lease = LocalLease.take(self._folder.lease(batch_id), journal)
        if lease is None:
            return None
        unfinished = False
        try:
            # Another process may have ended the batch since it was listed.
            unfinished = await self._is_unfinished(batch_id)
        finally:
            if not unfinished:
                await lease.release()
        return lease if unfinished else None

    async def _is_unfinished(self, batch_id: str) -> bool:
        wanted = f"id = ? AND {IS_UNFINISHED}"
        return bool(await self._database.run(lambda c: batches_where(c, wanted, batch_id)))

    async def unfinished(self) -> list[Batch]:
        wanted = f"{IS_UNFINISHED} ORDER BY seq"
        return await self._database.run(lambda connection: batches_where(connection, wanted))

    async def latest(self, limit: int) -> list[Batch]:
        def latest(connection: Connection) -> list[Batch]:
            unfinished = f"{IS_UNFINISHED} ORDER BY seq LIMIT ?"
            ended = f"NOT {IS_UNFINISHED} ORDER BY seq DESC LIMIT ?"
            return [
                *batches_where(connection, unfinished, limit),
                *batches_where(connection, ended, limit),
            ]

        return await self._database.run(latest)

    async def newest(self, limit: int) -> list[Batch]:
        query = "TRUE ORDER BY seq DESC LIMIT ?"
        return await self._database.run(lambda c: batches_where(c, query, limit))

    async def find(self, batch_id: str) -> Batch | None:
        found = await self._database.run(lambda c: batches_where(c, "id = ?", batch_id))
        return found[0] if found else None

    async def forget(self, keep_seconds: int) -> tuple[list[str], set[str], set[str]]:
        now = int(self._clock())

        def forget(connection: Connection) -> tuple[list[str], set[str], set[str]]:
            drop_expired(connection, now)
            used = f"SELECT input_file_id FROM batches WHERE {IS_UNFINISHED}"
            old = files_where(connection, f"expires_at <= ? AND id NOT IN ({used})", now)
            connection.executemany("DELETE FROM files WHERE id = ?", [(file.id,) for file in old])
            connection.execute(
                f"DELETE FROM batches WHERE NOT {IS_UNFINISHED} AND created_at <= ?",
                (now - keep_seconds,),
            )
            left = {name for (name,) in connection.execute("SELECT id FROM files")}
            running = batches_where(connection, IS_UNFINISHED)
            return [file.id for file in old], left, {batch.id for batch in running}

        return await self._database.run(forget)

    async def close(self) -> None:
        self._database.close()
