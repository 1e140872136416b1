"""Records of batches in a SQLite file and a folder, for the processes of one machine."""

import asyncio
import json
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Coroutine, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, replace
from functools import wraps
from pathlib import Path
from sqlite3 import Connection
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from service.common.database import Database
from service.common.files import make_local
from service.plugins.batches.disk import is_new, list_old, lock, new_place, put_in_place, remove_old
from service.plugins.batches.local_tables import (
    IS_UNFINISHED,
    VERSIONS,
    count_used,
    drop_expired,
    find_batch,
    find_file,
    insert,
    list_page,
    move_to,
    select,
)
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.store import (
    Answer,
    Batch,
    Page,
    Problem,
    Reservation,
    Status,
    StoredFile,
    check_cancellation,
    check_creation,
    free_space,
    in_use,
    too_large,
)

DATABASE = "batches.sqlite3"
Result = TypeVar("Result")
P = ParamSpec("P")


class _HasDatabase(Protocol):
    _database: Database


Self = TypeVar("Self", bound=_HasDatabase)


def _transaction(
    work: Callable[Concatenate[Self, Connection, P], Result],
) -> Callable[Concatenate[Self, P], Coroutine[Any, Any, Result]]:
    """Run a method as a transaction on the database's thread; an error rolls it back."""

    @wraps(work)
    async def run(self: Self, /, *args: P.args, **named: P.kwargs) -> Result:
        return await self._database.run(lambda connection: work(self, connection, *args, **named))

    return run


class LocalStore:
    """Records below a folder; implements `store.Store`.

    Creates missing folders. `clock` gives seconds since 1970. Raises ConfigurationError as
    `make_local`, and for a database that cannot be used.
    """

    def __init__(
        self, path: Path, settings: BatchSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._leases = path / "leases"
        self._pointers = path / "pointers"
        for folder in (path, self._leases, self._pointers):
            make_local("batches.path", folder)
        self._path = path / DATABASE
        self._database = Database(self._path, VERSIONS)
        self._settings = settings
        self._clock = clock

    @_transaction
    def reserve(self, connection: Connection, reservation: Reservation) -> int:
        drop_expired(connection, int(self._clock()))
        size = max(0, min(reservation.bytes, self._free_space(connection, reservation.tenant)))
        insert(connection, replace(reservation, bytes=size))
        return size

    @_transaction
    def cancel_reservation(self, connection: Connection, file_id: str) -> None:
        connection.execute("DELETE FROM arrivals WHERE id = ?", (file_id,))

    @_transaction
    def used_bytes(self, connection: Connection, tenant: str) -> int:
        return count_used(connection, tenant)[1]

    @_transaction
    def add_file(self, connection: Connection, file: StoredFile) -> None:
        connection.execute("DELETE FROM arrivals WHERE id = ?", (file.id,))
        if file.bytes > (space := self._free_space(connection, file.tenant)):
            raise too_large(self._settings, space)
        insert(connection, file)

    def _free_space(self, connection: Connection, tenant: str) -> int:
        return free_space(self._settings, *count_used(connection, tenant))

    @_transaction
    def file(self, connection: Connection, tenant: str, file_id: str) -> StoredFile:
        return find_file(connection, tenant, file_id)

    @_transaction
    def files(
        self, connection: Connection, tenant: str, page: Page, purpose: str | None = None
    ) -> tuple[list[StoredFile], bool]:
        return list_page(connection, StoredFile, tenant, page, purpose)

    @_transaction
    def delete_file(self, connection: Connection, tenant: str, file_id: str) -> None:
        find_file(connection, tenant, file_id)
        used = f"input_file_id = ? AND {IS_UNFINISHED} LIMIT 1"
        for batch in select(connection, Batch, used, file_id):
            raise in_use(batch.id)
        connection.execute("DELETE FROM files WHERE id = ?", (file_id,))

    @_transaction
    def create(self, connection: Connection, batch: Batch) -> Batch:
        batch = batch.under_new_id()
        found = select(
            connection, StoredFile, "tenant = ? AND id = ?", batch.tenant, batch.input_file_id
        )
        purpose = found[0].purpose if found else None
        unfinished = select(connection, Batch, f"tenant = ? AND {IS_UNFINISHED}", batch.tenant)
        count, _ = count_used(connection, batch.tenant)
        check_creation(self._settings, batch, purpose, len(unfinished), count)
        insert(connection, batch)
        ended = f"tenant = ? AND NOT {IS_UNFINISHED} ORDER BY seq DESC LIMIT -1 OFFSET ?"
        beyond = f"SELECT seq FROM batches WHERE {ended}"
        connection.execute(
            f"DELETE FROM batches WHERE seq IN ({beyond})", (batch.tenant, self._settings.max_ended)
        )
        return batch

    @_transaction
    def batch(self, connection: Connection, tenant: str | None, batch_id: str) -> Batch:
        return find_batch(connection, batch_id, tenant)

    @_transaction
    def batches(self, connection: Connection, tenant: str, page: Page) -> tuple[list[Batch], bool]:
        return list_page(connection, Batch, tenant, page)

    @_transaction
    def cancel(self, connection: Connection, tenant: str, batch_id: str) -> Batch:
        batch = find_batch(connection, batch_id, tenant)
        check_cancellation(batch)
        if batch.status in (Status.VALIDATING, Status.IN_PROGRESS):
            return move_to(connection, batch_id, Status.CANCELLING, int(self._clock()))
        return batch

    @_transaction
    def unfinished(self, connection: Connection) -> list[Batch]:
        return select(connection, Batch, f"{IS_UNFINISHED} ORDER BY seq")

    @_transaction
    def ended(self, connection: Connection, limit: int) -> list[Batch]:
        return select(connection, Batch, f"NOT {IS_UNFINISHED} ORDER BY seq DESC LIMIT ?", limit)

    async def take(self, batch_id: str) -> "LocalLease | None":
        if (descriptor := lock(self._leases / batch_id, os.O_RDWR | os.O_CREAT)) is None:
            return None
        wanted, found = f"id = ? AND {IS_UNFINISHED}", list[Batch]()
        try:
            # Another process may have ended the batch since it was listed.
            found = await self._database.run(lambda c: select(c, Batch, wanted, batch_id))
        finally:
            if not found:
                os.close(descriptor)
        return LocalLease(self, batch_id, descriptor) if found else None

    async def expire(self, keep_seconds: int) -> tuple[list[str], set[str], set[str]]:
        old, files, running = await self._expire(int(self._clock()), keep_seconds)
        await asyncio.to_thread(remove_old, self._leases, running)
        return old, files, running

    @_transaction
    def _expire(
        self, connection: Connection, now: int, keep_seconds: int
    ) -> tuple[list[str], set[str], set[str]]:
        drop_expired(connection, now)
        used = f"SELECT input_file_id FROM batches WHERE {IS_UNFINISHED}"
        old = select(connection, StoredFile, f"expires_at <= ? AND id NOT IN ({used})", now)
        connection.executemany("DELETE FROM files WHERE id = ?", [(file.id,) for file in old])
        connection.execute(
            f"DELETE FROM batches WHERE NOT {IS_UNFINISHED} AND created_at <= ?",
            (now - keep_seconds,),
        )
        left = {name for (name,) in connection.execute("SELECT id FROM files")}
        running = {batch.id for batch in select(connection, Batch, IS_UNFINISHED)}
        return [file.id for file in old], left, running

    async def keep_address(self, file_id: str, address: str) -> None:
        def write() -> None:
            pointer = new_place(self._pointers)
            pointer.write_text(address, encoding="utf-8")
            put_in_place(pointer, self._pointers / file_id)

        await asyncio.to_thread(write)

    async def address_of(self, file_id: str) -> str | None:
        try:
            return await asyncio.to_thread((self._pointers / file_id).read_text, encoding="utf-8")
        except FileNotFoundError:
            return None

    async def forget_address(self, file_id: str) -> None:
        await asyncio.to_thread((self._pointers / file_id).unlink, missing_ok=True)

    async def list_orphans(self, known: Collection[str]) -> list[str]:
        found = await asyncio.to_thread(list_old, self._pointers, known)
        for path in filter(is_new, found):
            # Left by a process that was killed before it had written the address.
            await asyncio.to_thread(path.unlink, missing_ok=True)
        return [path.name for path in found if not is_new(path)]

    async def close(self) -> None:
        self._database.close()


class LocalLease:
    """A lease by a lock on a file; implements `store.Lease`.

    The kernel releases the lock when the process ends, for whatever reason, so no timeout is needed
    and no lease is lost.
    """

    def __init__(self, store: LocalStore, batch_id: str, descriptor: int) -> None:
        self._database = store._database
        self._path = store._path
        self._clock = store._clock
        self._id = batch_id
        self._descriptor = descriptor

    @_transaction
    def record(self, connection: Connection, answers: Iterable[Answer]) -> Batch:
        counts, size = {False: 0, True: 0}, 0
        for answer in answers:
            added = connection.execute(
                "INSERT OR IGNORE INTO answers (batch, line, failed, body) VALUES (?, ?, ?, ?)",
                (self._id, answer.line, answer.failed, answer.body),
            ).rowcount
            counts[answer.failed] += added
            size += added * len(answer.body)
        if size:
            connection.execute(
                "UPDATE batches SET completed = completed + ?, failed = failed + ?, "
                "answer_bytes = answer_bytes + ?, moved_at = ? WHERE id = ?",
                (counts[False], counts[True], size, int(self._clock()), self._id),
            )
        return find_batch(connection, self._id)

    @_transaction
    def move(
        self,
        connection: Connection,
        before: Status,
        after: Status,
        *,
        total: int = 0,
        problems: Sequence[Problem] = (),
    ) -> Batch:
        if total or problems:
            listed = json.dumps([asdict(problem) for problem in problems])
            found = "UPDATE batches SET total = ?, problems = ? WHERE id = ?"
            connection.execute(found, (total, listed, self._id))
        present = find_batch(connection, self._id)
        if present.status is not before:
            return present
        return move_to(connection, self._id, after, int(self._clock()))

    @_transaction
    def answered(self, connection: Connection) -> set[int]:
        rows = connection.execute("SELECT line FROM answers WHERE batch = ?", (self._id,))
        return {line for (line,) in rows}

    async def write(self, output: Path, errors: Path) -> None:
        """Write both files, in another thread and by a connection of its own."""
        await asyncio.to_thread(self._write, output, errors)

    def _write(self, *paths: Path) -> None:
        address = f"{self._path.absolute().as_uri()}?mode=ro"
        query = "SELECT body FROM answers WHERE batch = ? AND failed = ? ORDER BY line"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            for failed, path in enumerate(paths):
                with path.open("xb") as file:
                    rows = connection.execute(query, (self._id, failed))
                    file.writelines(body for (body,) in rows)

    async def finish(
        self, status: Status, output: StoredFile | None, errors: StoredFile | None
    ) -> Batch:
        ended = await self._finish(status, output, errors)
        await self._database.shrink()
        return ended

    @_transaction
    def _finish(self, connection: Connection, status: Status, *files: StoredFile | None) -> Batch:
        for file in filter(None, files):
            insert(connection, file)
        connection.execute(
            "UPDATE batches SET output_file_id = ?, error_file_id = ?, answer_bytes = 0 "
            "WHERE id = ?",
            (*(file and file.id for file in files), self._id),
        )
        connection.execute("DELETE FROM answers WHERE batch = ?", (self._id,))
        return move_to(connection, self._id, status, int(self._clock()))

    async def release(self) -> None:
        os.close(self._descriptor)
