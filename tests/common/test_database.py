"""A SQLite file that is damaged or busy: its callers are told, and what was committed stays so."""

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from service.common import database
from service.common.database import Database
from service.errors import Unavailable

TABLES = "CREATE TABLE numbers (number INTEGER PRIMARY KEY, filler BLOB)"


def add(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO numbers (filler) VALUES (zeroblob(9000))")


def count(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("SELECT COUNT(*) FROM numbers").fetchone()[0]
    return found


def free_pages(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("PRAGMA freelist_count").fetchone()[0]
    return found


def damage(folder: Path) -> None:
    """Overwrite the database and SQLite's files beside it."""
    for file in folder.iterdir():
        file.write_bytes(b"\xff" * file.stat().st_size)


async def test_a_damaged_file_is_unavailable(tmp_path: Path) -> None:
    kept = Database(tmp_path / "numbers.sqlite3", (TABLES,))
    for _ in range(20):
        await kept.run(add)
    damage(tmp_path)
    with pytest.raises(Unavailable, match="cannot be read or written now") as raised:
        await kept.run(count)
    assert isinstance(raised.value.__cause__, sqlite3.DatabaseError)
    kept.close()


async def test_a_fault_of_the_work_is_no_fault_of_the_file(tmp_path: Path) -> None:
    kept = Database(tmp_path / "numbers.sqlite3", (TABLES,))

    def twice(connection: sqlite3.Connection) -> None:
        for _ in range(2):
            connection.execute("INSERT INTO numbers (number) VALUES (1)")

    with pytest.raises(sqlite3.IntegrityError):
        await kept.run(twice)
    assert await kept.run(count) == 0
    kept.close()


async def emptied(path: Path) -> Database:
    """A database whose rows, two megabytes, were deleted."""
    kept = Database(path, (TABLES,))
    for _ in range(200):
        await kept.run(add)
    await kept.run(lambda connection: connection.execute("DELETE FROM numbers").rowcount)
    return kept


def size_of(folder: Path) -> int:
    """Bytes of the database and of SQLite's files beside it."""
    return sum(each.stat().st_size for each in folder.iterdir())


async def test_space_of_deleted_rows_goes_back_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "LOG_BYTES", 1 << 16)
    monkeypatch.setattr(database, "PAGES_AT_ONCE", 100)
    kept = await emptied(tmp_path / "numbers.sqlite3")
    assert size_of(tmp_path) > 2_000_000
    await kept.shrink()
    for _ in range(2):  # after which SQLite's log is read back, and cut
        await kept.run(add)
    assert size_of(tmp_path) < 300_000
    kept.close()


async def test_space_that_cannot_be_given_back_now_is_given_back_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
    kept = await emptied(path := tmp_path / "numbers.sqlite3")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        await kept.shrink()
        other.execute("COMMIT")
    assert await kept.run(count) == 0
    assert await kept.run(free_pages) > 0
    await kept.shrink()
    assert await kept.run(free_pages) == 0
    kept.close()
