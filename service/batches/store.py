"""Store of files and batches, in which a tenant sees and changes only its own."""

import secrets
import time
from collections.abc import Callable
from dataclasses import replace
from sqlite3 import Connection
from typing import TypeVar

from service.batches.records import UNFINISHED, Batch, Page, Purpose, Status, StoredFile
from service.batches.tables import (
    IS_UNFINISHED,
    batches_where,
    files_where,
    held,
    put_batch,
    put_file,
)
from service.database import Database
from service.errors import InvalidRequest, NotFound, PayloadTooLarge
from service.quoting import quote
from service.settings.batches import BatchSettings

Record = TypeVar("Record", StoredFile, Batch)


class BatchStore:
    """Files and batches by tenant; another tenant's file or batch is NotFound.

    `clock` gives seconds since 1970. Raises InvalidRequest beyond the tenant's limits.
    """

    def __init__(
        self, database: Database, settings: BatchSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return int(self._clock())

    async def space(self, tenant: str) -> int:
        """Bytes that a new file may have; InvalidRequest if the tenant may have no more files."""
        return await self._database.run(lambda connection: self._space(connection, tenant))

    async def add_file(self, file: StoredFile) -> None:
        """Add a file whose content is in its place; raises as `space`, and PayloadTooLarge."""

        def add(connection: Connection) -> None:
            if file.bytes > (space := self._space(connection, file.tenant)):
                raise self.too_large(space)
            put_file(connection, file)

        await self._database.run(add)

    def too_large(self, space: int) -> PayloadTooLarge:
        """The error for a file that is larger than the space that its tenant has."""
        if space >= self._settings.max_file_bytes:
            message = f"file: at most {self._settings.max_file_bytes} bytes, got more"
        else:
            message = (
                f"file: your files and answers may hold {self._settings.tenant_bytes} bytes "
                f"together, and {max(0, space)} are left; delete files"
            )
        return PayloadTooLarge(message, param="file")

    def _space(self, connection: Connection, tenant: str) -> int:
        count, size = held(connection, tenant)
        most = self._settings.max_files
        if count >= most:
            message = f"file: at most {most} files, got one more; delete files"
            raise InvalidRequest(message, code="limit_reached", param="file")
        return min(self._settings.max_file_bytes, self._settings.tenant_bytes - size)

    async def file(self, tenant: str, file_id: str) -> StoredFile:
        """One file."""
        return await self._database.run(lambda connection: _file(connection, tenant, file_id))

    async def files(
        self, tenant: str, page: Page, purpose: str | None = None
    ) -> tuple[list[StoredFile], bool]:
        """Files of a page, and True if there are more."""
        wanted = "" if purpose is None else " AND purpose = ?"
        values = () if purpose is None else (purpose,)
        return await self._database.run(
            lambda connection: _listed(
                connection, files_where, "files", tenant, page, wanted, values
            )
        )

    async def delete_file(self, tenant: str, file_id: str) -> None:
        """Delete a file; InvalidRequest for one that an unfinished batch reads."""

        def delete(connection: Connection) -> None:
            _file(connection, tenant, file_id)
            used = f"input_file_id = ? AND {IS_UNFINISHED} LIMIT 1"
            if batches := batches_where(connection, used, file_id):
                message = f"file_id: the batch {batches[0].id} reads it; cancel the batch first"
                raise InvalidRequest(message, code="file_in_use", param="file_id")
            connection.execute("DELETE FROM files WHERE id = ?", (file_id,))

        await self._database.run(delete)

    async def create(self, batch: Batch) -> Batch:
        """Add a batch of an input file under a new id; its validation begins."""
        batch_id = f"batch_{secrets.token_hex(16)}"
        batch = replace(batch, id=batch_id, moved_at=batch.created_at)

        def create(connection: Connection) -> None:
            try:
                file = _file(connection, batch.tenant, batch.input_file_id)
            except NotFound as error:
                raise InvalidRequest(error.message, param="input_file_id") from None
            if file.purpose != Purpose.BATCH:
                message = f"input_file_id: its purpose must be batch, got {file.purpose}"
                raise InvalidRequest(message, param="input_file_id")
            unfinished = f"tenant = ? AND {IS_UNFINISHED}"
            most = self._settings.max_batches
            if len(batches_where(connection, unfinished, batch.tenant)) >= most:
                message = f"at most {most} unfinished batches, got one more; wait, or cancel one"
                raise InvalidRequest(message, code="limit_reached")
            put_batch(connection, batch)

        await self._database.run(create)
        return batch

    async def batch(self, tenant: str, batch_id: str) -> Batch:
        """One batch."""
        return await self._database.run(lambda connection: _batch(connection, tenant, batch_id))

    async def batches(self, tenant: str, page: Page) -> tuple[list[Batch], bool]:
        """Batches of a page, and True if there are more."""
        return await self._database.run(
            lambda connection: _listed(connection, batches_where, "batches", tenant, page)
        )

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Ask a batch to end; InvalidRequest for one that has ended."""

        def cancel(connection: Connection) -> Batch:
            batch = _batch(connection, tenant, batch_id)
            if batch.status not in UNFINISHED:
                message = f"batch_id: the batch has ended already, as {batch.status}"
                raise InvalidRequest(message, param="batch_id")
            if batch.status in (Status.VALIDATING, Status.IN_PROGRESS):
                return move(connection, batch, Status.CANCELLING, self.now)
            return batch

        return await self._database.run(cancel)


def move(connection: Connection, batch: Batch, status: Status, now: int) -> Batch:
    """Give a batch a status."""
    connection.execute(
        "UPDATE batches SET status = ?, times = json_set(times, ?, ?), moved_at = ? WHERE id = ?",
        (status, f"$.{status}", now, now, batch.id),
    )
    return batch_of(connection, batch.id)


def batch_of(connection: Connection, batch_id: str) -> Batch:
    """A batch of any tenant."""
    return batches_where(connection, "id = ?", batch_id)[0]


def _file(connection: Connection, tenant: str, file_id: str) -> StoredFile:
    found = files_where(connection, "tenant = ? AND id = ?", tenant, file_id)
    if not found:
        raise _unknown("file", file_id)
    return found[0]


def _batch(connection: Connection, tenant: str, batch_id: str) -> Batch:
    found = batches_where(connection, "tenant = ? AND id = ?", tenant, batch_id)
    if not found:
        raise _unknown("batch", batch_id)
    return found[0]


def _listed(
    connection: Connection,
    where: Callable[..., list[Record]],
    table: str,
    tenant: str,
    page: Page,
    wanted: str = "",
    values: tuple[str, ...] = (),
) -> tuple[list[Record], bool]:
    """Records of a page, and True if there are more."""
    condition, order = f"tenant = ?{wanted}", "DESC" if page.newest_first else "ASC"
    arguments = [tenant, *values]
    if page.after is not None:
        query = f"SELECT seq FROM {table} WHERE tenant = ? AND id = ?"
        row = connection.execute(query, (tenant, page.after)).fetchone()
        if row is None:
            raise InvalidRequest(f"after: no {quote(page.after)} in this list", param="after")
        condition += f" AND seq {'<' if page.newest_first else '>'} ?"
        arguments.append(row[0])
    found = where(
        connection, f"{condition} ORDER BY seq {order} LIMIT ?", *arguments, page.limit + 1
    )
    return found[: page.limit], len(found) > page.limit


def _unknown(kind: str, name: str) -> NotFound:
    return NotFound(f"{kind}_id: there is no {kind} {quote(name)}", param=f"{kind}_id")
