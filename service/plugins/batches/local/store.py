"""Store of files and batches in SQLite, in which a tenant sees and changes only its own."""

import time
from collections.abc import Callable
from dataclasses import replace
from sqlite3 import Connection
from typing import TypeVar

from service.common.database import Database
from service.errors import NotFound
from service.plugins.batches import refusals
from service.plugins.batches.local.tables import (
    IS_UNFINISHED,
    batches_where,
    drop_arrival,
    drop_ended,
    drop_expired,
    files_where,
    held,
    put_arrival,
    put_batch,
    put_file,
)
from service.plugins.batches.records import (
    UNFINISHED,
    Arrival,
    Batch,
    Page,
    Purpose,
    Status,
    StoredFile,
)
from service.plugins.batches.settings import BatchSettings

Record = TypeVar("Record", StoredFile, Batch)


class LocalStore:
    """Files and batches by tenant; implements `batches.store.BatchStore`.

    `clock` gives seconds since 1970.
    """

    def __init__(
        self, database: Database, settings: BatchSettings, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._settings = settings
        self._clock = clock

    async def reserve(self, arrival: Arrival) -> int:
        def reserve(connection: Connection) -> int:
            drop_expired(connection, int(self._clock()))
            size = max(0, min(arrival.bytes, self._space(connection, arrival.tenant)))
            put_arrival(connection, replace(arrival, bytes=size))
            return size

        return await self._database.run(reserve)

    async def give_back(self, file_id: str) -> None:
        await self._database.run(lambda connection: drop_arrival(connection, file_id))

    async def add_file(self, file: StoredFile) -> None:
        def add(connection: Connection) -> None:
            drop_arrival(connection, file.id)
            if file.bytes > (space := self._space(connection, file.tenant)):
                raise refusals.too_large(self._settings, space)
            put_file(connection, file)

        await self._database.run(add)

    def _space(self, connection: Connection, tenant: str) -> int:
        return refusals.space_of(self._settings, *held(connection, tenant))

    async def file(self, tenant: str, file_id: str) -> StoredFile:
        return await self._database.run(lambda connection: _file(connection, tenant, file_id))

    async def files(
        self, tenant: str, page: Page, purpose: str | None = None
    ) -> tuple[list[StoredFile], bool]:
        wanted = "" if purpose is None else " AND purpose = ?"
        values = () if purpose is None else (purpose,)
        return await self._database.run(
            lambda connection: _listed(
                connection, files_where, "files", tenant, page, wanted, values
            )
        )

    async def delete_file(self, tenant: str, file_id: str) -> None:
        def delete(connection: Connection) -> None:
            _file(connection, tenant, file_id)
            used = f"input_file_id = ? AND {IS_UNFINISHED} LIMIT 1"
            if batches := batches_where(connection, used, file_id):
                raise refusals.in_use(batches[0].id)
            connection.execute("DELETE FROM files WHERE id = ?", (file_id,))

        await self._database.run(delete)

    async def create(self, batch: Batch) -> Batch:
        batch = batch.named()

        def create(connection: Connection) -> None:
            try:
                file = _file(connection, batch.tenant, batch.input_file_id)
            except NotFound:
                raise refusals.no_input(batch) from None
            if file.purpose != Purpose.BATCH:
                raise refusals.not_for_batches(file.purpose)
            unfinished = f"tenant = ? AND {IS_UNFINISHED}"
            if (
                len(batches_where(connection, unfinished, batch.tenant))
                >= self._settings.max_batches
            ):
                raise refusals.too_many(self._settings)
            if held(connection, batch.tenant)[0] >= self._settings.max_files:
                raise refusals.no_room_for_results(self._settings)
            put_batch(connection, batch)
            drop_ended(connection, batch.tenant, self._settings.max_ended)

        await self._database.run(create)
        return batch

    async def batch(self, tenant: str, batch_id: str) -> Batch:
        return await self._database.run(lambda connection: _batch(connection, tenant, batch_id))

    async def batches(self, tenant: str, page: Page) -> tuple[list[Batch], bool]:
        return await self._database.run(
            lambda connection: _listed(connection, batches_where, "batches", tenant, page)
        )

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        def cancel(connection: Connection) -> Batch:
            batch = _batch(connection, tenant, batch_id)
            if batch.status not in UNFINISHED:
                raise refusals.ended_already(batch)
            if batch.status in (Status.VALIDATING, Status.IN_PROGRESS):
                return move(connection, batch, Status.CANCELLING, int(self._clock()))
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
        raise refusals.unknown("file", file_id)
    return found[0]


def _batch(connection: Connection, tenant: str, batch_id: str) -> Batch:
    found = batches_where(connection, "tenant = ? AND id = ?", tenant, batch_id)
    if not found:
        raise refusals.unknown("batch", batch_id)
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
            raise refusals.not_listed(page.after)
        condition += f" AND seq {'<' if page.newest_first else '>'} ?"
        arguments.append(row[0])
    found = where(
        connection, f"{condition} ORDER BY seq {order} LIMIT ?", *arguments, page.limit + 1
    )
    return found[: page.limit], len(found) > page.limit
