"""Journal of one running batch in SQLite; each answer is a row, and each call a transaction."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from sqlite3 import Connection

from service.common.database import Database
from service.plugins.batches.local.store import batch_of, move
from service.plugins.batches.local.tables import held, put_file
from service.plugins.batches.records import Answer, Batch, Problem, Status, StoredFile


class LocalJournal:
    """Answers and status of a batch; implements `batches.store.Journal`.

    Its lease cannot be lost. `path` is the database's file, `clock` gives seconds since 1970.
    """

    def __init__(
        self, database: Database, path: Path, batch_id: str, clock: Callable[[], float]
    ) -> None:
        self._database = database
        self._path = path
        self._id = batch_id
        self._clock = clock

    async def read(self) -> Batch:
        return await self._database.run(lambda connection: batch_of(connection, self._id))

    async def validated(self, total: int) -> Batch:
        def validated(connection: Connection) -> Batch:
            query = "UPDATE batches SET total = ? WHERE id = ?"
            connection.execute(query, (total, self._id))
            return self._move_from(connection, Status.VALIDATING, Status.IN_PROGRESS)

        return await self._database.run(validated)

    async def refused(self, problems: Sequence[Problem]) -> Batch:
        def refused(connection: Connection) -> Batch:
            query = "UPDATE batches SET problems = ? WHERE id = ?"
            listed = json.dumps([asdict(problem) for problem in problems])
            connection.execute(query, (listed, self._id))
            return self._move_from(connection, Status.VALIDATING, Status.FAILED)

        return await self._database.run(refused)

    async def answered(self) -> set[int]:
        query = "SELECT line FROM answers WHERE batch = ?"
        rows = await self._database.run(lambda c: c.execute(query, (self._id,)).fetchall())
        return {line for (line,) in rows}

    async def record(self, answers: Iterable[Answer]) -> Batch:
        def record(connection: Connection) -> Batch:
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
            return batch_of(connection, self._id)

        return await self._database.run(record)

    async def held(self) -> int:
        def bytes_of_tenant(connection: Connection) -> int:
            return held(connection, batch_of(connection, self._id).tenant)[1]

        return await self._database.run(bytes_of_tenant)

    async def finalizing(self) -> Batch:
        return await self._database.run(
            lambda c: self._move_from(c, Status.IN_PROGRESS, Status.FINALIZING)
        )

    async def write(self, output: Path, errors: Path) -> None:
        """Write both files, on a thread that reads beside the database's own."""
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
        def finish(connection: Connection) -> Batch:
            for file in filter(None, (output, errors)):
                put_file(connection, file)
            connection.execute(
                "UPDATE batches SET output_file_id = ?, error_file_id = ?, answer_bytes = 0 "
                "WHERE id = ?",
                (output and output.id, errors and errors.id, self._id),
            )
            connection.execute("DELETE FROM answers WHERE batch = ?", (self._id,))
            return move(connection, batch_of(connection, self._id), status, int(self._clock()))

        ended = await self._database.run(finish)
        await self._database.shrink()
        return ended

    def _move_from(self, connection: Connection, before: Status, after: Status) -> Batch:
        """Change the status from `before` to `after`; the batch stays in any other status."""
        present = batch_of(connection, self._id)
        if present.status is not before:
            return present
        return move(connection, present, after, int(self._clock()))
