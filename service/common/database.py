"""A SQLite database on a thread of its own, beside the event loop."""

import asyncio
import logging
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from service.errors import ConfigurationError, Unavailable

Result = TypeVar("Result")

_log = logging.getLogger(__name__)

BUSY_SECONDS = 10.0
_RETRY_SECONDS = 5.0
PAGES_AT_ONCE = 1024
LOG_BYTES = 8 << 20
"""Size to which SQLite cuts its write-ahead log after a checkpoint; deleting rows can write so
much."""
_FAILURES = (sqlite3.OperationalError, sqlite3.DatabaseError)
"""Errors of a file that is locked, full or cannot be read, and of one that is damaged."""


class Database:
    """One file in WAL mode, which several processes of one machine may use at once.

    `versions` holds the migrations: the statements that make each version of the tables from the
    previous one. An older file is migrated to the last version; a newer one is refused. A commit is
    on disk when `run` returns. Raises ConfigurationError for a file that cannot be used.
    """

    def __init__(self, path: Path, versions: Sequence[str]) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=path.stem)
        try:
            # Answers are read by this user only, and so are the files that SQLite adds.
            path.touch(mode=0o600)
            self._connection = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            self._prepare(path, versions)
        except (OSError, sqlite3.Error) as error:
            raise ConfigurationError(f"{path}: cannot be used: {error}") from error

    def _prepare(self, path: Path, versions: Sequence[str]) -> None:
        # Space of deleted rows can be given back; this takes effect only before the first table.
        self._connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
        with self._connection:
            self._connection.execute("BEGIN IMMEDIATE")
            (found,) = self._connection.execute("PRAGMA user_version").fetchone()
            last = len(versions)
            if not 0 <= found <= last:
                raise ConfigurationError(
                    f"{path}: must be of version {last}, is {found}: another release of the "
                    "service wrote it; use that one, or another folder"
                )
            for number, statements in enumerate(versions[found:], found + 1):
                for statement in statements.split(";"):
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA user_version = {number}")

    async def run(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        """Do work in one transaction, which an error undoes.

        Raises Unavailable where the file cannot be read or written now, and what the work raises.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._work, work)

    def _work(self, work: Callable[[sqlite3.Connection], Result]) -> Result:
        try:
            with self._connection:
                self._connection.execute("BEGIN IMMEDIATE")
                return work(self._connection)
        except sqlite3.DatabaseError as error:
            if type(error) not in _FAILURES:
                raise  # a fault of the work
            _log.error("a database failed: %s", error)
            raise Unavailable(
                "The server's database cannot be read or written now.",
                code="store_unavailable",
                retry_after=_RETRY_SECONDS,
            ) from error

    async def shrink(self) -> None:
        """Give the space of deleted rows back to the disk, unless the file cannot be written now.

        In that case SQLite uses the space for new rows, and a later call can give it back.
        """
        loop = asyncio.get_running_loop()
        while await loop.run_in_executor(self._thread, self._shrink):
            pass  # other work on the file runs between these steps

    def _shrink(self) -> bool:
        """Give some pages back; False if there are no more, or not now."""
        try:
            before = self._free_pages()
            # `execute` takes one step of a statement without rows, which is one page.
            self._connection.executescript(f"PRAGMA incremental_vacuum({PAGES_AT_ONCE})")
            if 0 < self._free_pages() < before:
                return True
            # The file is cut as the log is read back, and the log with the next write after that.
            self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
            return False
        except _FAILURES as error:
            _log.warning("a database keeps the space of deleted rows: %s", error)
            return False

    def _free_pages(self) -> int:
        (pages,) = self._connection.execute("PRAGMA freelist_count").fetchone()
        return int(pages)

    def close(self) -> None:
        """Finish pending work, and close the file."""
        self._thread.shutdown()
        self._connection.close()
