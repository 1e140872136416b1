"""Tables of files and batches in SQLite, and records made of their rows."""

import json
from dataclasses import asdict, fields
from sqlite3 import Connection
from typing import Any, TypeVar

from service.plugins.batches.store import (
    UNFINISHED,
    Batch,
    Page,
    Reservation,
    Status,
    StoredFile,
    not_listed,
    unknown,
)

_FIRST = """
CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL,
    name TEXT NOT NULL, purpose TEXT NOT NULL, bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL
);
CREATE INDEX files_of_tenant ON files (tenant, seq);
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, tenant TEXT NOT NULL,
    endpoint TEXT NOT NULL, input_file_id TEXT NOT NULL, completion_window TEXT NOT NULL,
    created_at INTEGER NOT NULL, expires_at INTEGER NOT NULL, keep_seconds INTEGER NOT NULL,
    metadata TEXT NOT NULL, status TEXT NOT NULL, total INTEGER NOT NULL,
    completed INTEGER NOT NULL, failed INTEGER NOT NULL, problems TEXT NOT NULL,
    output_file_id TEXT, error_file_id TEXT, times TEXT NOT NULL, moved_at INTEGER NOT NULL,
    answer_bytes INTEGER NOT NULL
);
CREATE INDEX batches_of_tenant ON batches (tenant, seq);
CREATE INDEX batches_by_status ON batches (status, seq);
CREATE TABLE answers (
    batch TEXT NOT NULL, line INTEGER NOT NULL, failed INTEGER NOT NULL, body BLOB NOT NULL,
    PRIMARY KEY (batch, line)
)
"""
_SECOND = """
CREATE TABLE arrivals (
    id TEXT PRIMARY KEY, tenant TEXT NOT NULL, bytes INTEGER NOT NULL, expires_at INTEGER NOT NULL
)
"""
VERSIONS = (_FIRST, _SECOND)
"""Migrations: the statements that make each version of the tables from the previous one."""

_STATUSES = ", ".join(f"'{status}'" for status in UNFINISHED)
IS_UNFINISHED = f"status IN ({_STATUSES})"
_TABLES: dict[type, str] = {StoredFile: "files", Reservation: "arrivals", Batch: "batches"}
_JSON = ("metadata", "problems", "times")

Record = TypeVar("Record", StoredFile, Batch)


def select(connection: Connection, kind: type[Record], rest: str, *values: Any) -> list[Record]:
    """The records that satisfy a condition; `rest` is the SQL that follows WHERE."""
    names = [each.name for each in fields(kind)]
    query = f"SELECT {', '.join(names)} FROM {_TABLES[kind]} WHERE {rest}"
    rows = (dict(zip(names, row, strict=True)) for row in connection.execute(query, values))
    return [
        kind.of(row | {name: json.loads(row[name]) for name in _JSON if name in row})
        for row in rows
    ]


def find_file(connection: Connection, tenant: str, file_id: str) -> StoredFile:
    """A file of this tenant; NotFound if there is none."""
    for file in select(connection, StoredFile, "tenant = ? AND id = ?", tenant, file_id):
        return file
    raise unknown("file", file_id)


def find_batch(connection: Connection, batch_id: str, tenant: str | None = None) -> Batch:
    """A batch of this tenant, or of any; NotFound if there is none."""
    wanted = "id = ? AND COALESCE(?, tenant) = tenant"
    for batch in select(connection, Batch, wanted, batch_id, tenant):
        return batch
    raise unknown("batch", batch_id)


def list_page(
    connection: Connection,
    kind: type[Record],
    tenant: str,
    page: Page,
    purpose: str | None = None,
) -> tuple[list[Record], bool]:
    """Records of a page, and True if there are more."""
    condition, values = "tenant = ?", [tenant]
    if purpose is not None:
        condition, values = f"{condition} AND purpose = ?", [tenant, purpose]
    order, after = ("DESC", "<") if page.newest_first else ("ASC", ">")
    if page.after is not None:
        query = f"SELECT seq FROM {_TABLES[kind]} WHERE tenant = ? AND id = ?"
        if (row := connection.execute(query, (tenant, page.after)).fetchone()) is None:
            raise not_listed(page.after)
        condition += f" AND seq {after} {row[0]}"
    rest = f"{condition} ORDER BY seq {order} LIMIT {page.limit + 1}"
    found = select(connection, kind, rest, *values)
    return found[: page.limit], len(found) > page.limit


def count_used(connection: Connection, tenant: str) -> tuple[int, int]:
    """The number of a tenant's files, and the bytes of its files, answers and reservations."""
    query = """
        SELECT COUNT(*), COALESCE(SUM(bytes), 0)
            + (SELECT COALESCE(SUM(answer_bytes), 0) FROM batches WHERE tenant = :tenant)
            + (SELECT COALESCE(SUM(bytes), 0) FROM arrivals WHERE tenant = :tenant)
        FROM files WHERE tenant = :tenant
    """
    count, size = connection.execute(query, {"tenant": tenant}).fetchone()
    return count, size


def drop_expired(connection: Connection, now: int) -> None:
    """Delete reservations of uploads that never finished."""
    connection.execute("DELETE FROM arrivals WHERE expires_at <= ?", (now,))


def move_to(connection: Connection, batch_id: str, status: Status, now: int) -> Batch:
    """Set a batch's status and the time of the change."""
    connection.execute(
        "UPDATE batches SET status = ?, times = json_set(times, ?, ?), moved_at = ? WHERE id = ?",
        (status, f"$.{status}", now, now, batch_id),
    )
    return find_batch(connection, batch_id)


def insert(connection: Connection, record: StoredFile | Reservation | Batch) -> None:
    """Add a record."""
    row = asdict(record)
    row |= {name: json.dumps(row[name]) for name in _JSON if name in row}
    places = ", ".join(f":{name}" for name in row)
    query = f"INSERT INTO {_TABLES[type(record)]} ({', '.join(row)}) VALUES ({places})"
    connection.execute(query, row)
