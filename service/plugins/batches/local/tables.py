"""Tables of files and batches, and records made of their rows."""

import json
import sqlite3
from dataclasses import asdict, fields
from typing import Any

from service.plugins.batches.records import (
    UNFINISHED,
    Arrival,
    Batch,
    Problem,
    Purpose,
    Status,
    StoredFile,
)

_FIRST = """
CREATE TABLE files (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    purpose TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
);
CREATE INDEX files_of_tenant ON files (tenant, seq);
CREATE TABLE batches (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    input_file_id TEXT NOT NULL,
    completion_window TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    keep_seconds INTEGER NOT NULL,
    metadata TEXT NOT NULL,
    status TEXT NOT NULL,
    total INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    problems TEXT NOT NULL,
    output_file_id TEXT,
    error_file_id TEXT,
    times TEXT NOT NULL,
    moved_at INTEGER NOT NULL,
    answer_bytes INTEGER NOT NULL
);
CREATE INDEX batches_of_tenant ON batches (tenant, seq);
CREATE INDEX batches_by_status ON batches (status, seq);
CREATE TABLE answers (
    batch TEXT NOT NULL,
    line INTEGER NOT NULL,
    failed INTEGER NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (batch, line)
)
"""
_WITH_ARRIVALS = """
CREATE TABLE arrivals (
    id TEXT PRIMARY KEY,
    tenant TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
)
"""
VERSIONS = (_FIRST, _WITH_ARRIVALS)

_FILE = [each.name for each in fields(StoredFile)]
_BATCH = [each.name for each in fields(Batch)]
_JSON = ("metadata", "problems", "times")

_STATUSES = ", ".join(f"'{status}'" for status in UNFINISHED)
IS_UNFINISHED = f"status IN ({_STATUSES})"
"""Condition for batches that have not ended."""


def put_file(connection: sqlite3.Connection, file: StoredFile) -> None:
    """Add a file."""
    _insert(connection, "files", asdict(file))


def put_arrival(connection: sqlite3.Connection, arrival: Arrival) -> None:
    """Add a file that is being uploaded."""
    _insert(connection, "arrivals", asdict(arrival))


def drop_arrival(connection: sqlite3.Connection, file_id: str) -> None:
    """Remove it, if it is there."""
    connection.execute("DELETE FROM arrivals WHERE id = ?", (file_id,))


def drop_expired(connection: sqlite3.Connection, now: int) -> None:
    """Remove those whose upload ended without a word."""
    connection.execute("DELETE FROM arrivals WHERE expires_at <= ?", (now,))


def put_batch(connection: sqlite3.Connection, batch: Batch) -> None:
    """Add a batch."""
    row = asdict(batch)
    _insert(connection, "batches", row | {name: json.dumps(row[name]) for name in _JSON})


def drop_ended(connection: sqlite3.Connection, tenant: str, most: int) -> None:
    """Remove a tenant's oldest ended batches beyond so many."""
    ended = f"tenant = ? AND NOT {IS_UNFINISHED} ORDER BY seq DESC LIMIT -1 OFFSET ?"
    beyond = f"SELECT seq FROM batches WHERE {ended}"
    connection.execute(f"DELETE FROM batches WHERE seq IN ({beyond})", (tenant, most))


def files_where(connection: sqlite3.Connection, rest: str, *values: Any) -> list[StoredFile]:
    """The files for which a condition holds; `rest` follows WHERE."""
    rows = connection.execute(f"SELECT {', '.join(_FILE)} FROM files WHERE {rest}", values)
    return [_file(dict(zip(_FILE, row, strict=True))) for row in rows]


def batches_where(connection: sqlite3.Connection, rest: str, *values: Any) -> list[Batch]:
    """The batches for which a condition holds; `rest` follows WHERE."""
    rows = connection.execute(f"SELECT {', '.join(_BATCH)} FROM batches WHERE {rest}", values)
    return [_batch(dict(zip(_BATCH, row, strict=True))) for row in rows]


def held(connection: sqlite3.Connection, tenant: str) -> tuple[int, int]:
    """The number of a tenant's files, and the bytes of these, of answers and of arrivals."""
    count, files = connection.execute(
        "SELECT COUNT(*), COALESCE(SUM(bytes), 0) FROM files WHERE tenant = ?", (tenant,)
    ).fetchone()
    (answers,) = connection.execute(
        "SELECT COALESCE(SUM(answer_bytes), 0) FROM batches WHERE tenant = ?", (tenant,)
    ).fetchone()
    (arrivals,) = connection.execute(
        "SELECT COALESCE(SUM(bytes), 0) FROM arrivals WHERE tenant = ?", (tenant,)
    ).fetchone()
    return count, files + answers + arrivals


def _file(row: dict[str, Any]) -> StoredFile:
    return StoredFile(**row | {"purpose": Purpose(row["purpose"])})


def _batch(row: dict[str, Any]) -> Batch:
    row |= {name: json.loads(row[name]) for name in _JSON}
    times = {Status(name): at for name, at in row.pop("times").items()}
    problems = tuple(Problem(**problem) for problem in row.pop("problems"))
    return Batch(**row | {"status": Status(row["status"])}, problems=problems, times=times)


def _insert(connection: sqlite3.Connection, table: str, row: dict[str, Any]) -> None:
    places = ", ".join(f":{name}" for name in row)
    connection.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({places})", row)
