"""A SQLite file that is damaged or busy: its callers are told, and what was committed stays so."""

import sqlite3
from pathlib import Path

import pytest

from service.database import Database
from service.errors import Unavailable

TABLES = "CREATE TABLE numbers (number INTEGER PRIMARY KEY, filler BLOB)"


def add(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO numbers (filler) VALUES (zeroblob(9000))")


def count(connection: sqlite3.Connection) -> int:
    found: int = connection.execute("SELECT COUNT(*) FROM numbers").fetchone()[0]
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
