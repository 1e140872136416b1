"""Journal of running batches: answers of lines and ends of batches, each in one transaction."""

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from sqlite3 import Connection

from service.batches.records import Batch, Problem, Status, StoredFile
from service.batches.store import batch_of, move
from service.batches.tables import IS_UNFINISHED, batches_where, files_where, held, put_file
from service.database import Database


@dataclass(frozen=True, slots=True)
class Answer:
    """The line of an output or error file that answers a line of an input file."""

    line: int
    failed: bool
    body: bytes


class Journal:
    """Answers and statuses, written by the process that holds a batch's lease.

    `clock` gives seconds since 1970.
    """

    def __init__(self, database: Database, clock: Callable[[], float] = time.time) -> None:
        self._database = database
        self._clock = clock

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return int(self._clock())

    async def unfinished(self) -> list[Batch]:
        """All batches that have not ended, the oldest first."""
        wanted = f"{IS_UNFINISHED} ORDER BY seq"
        return await self._database.run(lambda connection: batches_where(connection, wanted))

    async def latest(self, limit: int) -> list[Batch]:
        """Batches of all tenants, at most `limit` of each kind: those that have not ended, the
        oldest first, then those that ended, the newest first.
        """

        def latest(connection: Connection) -> list[Batch]:
            unfinished = f"{IS_UNFINISHED} ORDER BY seq LIMIT ?"
            ended = f"NOT {IS_UNFINISHED} ORDER BY seq DESC LIMIT ?"
            return [
                *batches_where(connection, unfinished, limit),
                *batches_where(connection, ended, limit),
            ]

        return await self._database.run(latest)

    async def read(self, batch_id: str) -> Batch:
        """A batch as it is now."""
        return await self._database.run(lambda connection: batch_of(connection, batch_id))

    async def validated(self, batch: Batch, total: int) -> Batch:
        """Begin to answer the lines of a batch, unless it was cancelled meanwhile."""

        def validated(connection: Connection) -> Batch:
            query = "UPDATE batches SET total = ? WHERE id = ?"
            connection.execute(query, (total, batch.id))
            return _move_from(connection, batch, Status.VALIDATING, Status.IN_PROGRESS, self.now)

        return await self._database.run(validated)

    async def refused(self, batch: Batch, problems: Sequence[Problem]) -> Batch:
        """End a batch whose input file has problems, unless it was cancelled meanwhile."""

        def refused(connection: Connection) -> Batch:
            query = "UPDATE batches SET problems = ? WHERE id = ?"
            listed = json.dumps([asdict(problem) for problem in problems])
            connection.execute(query, (listed, batch.id))
            return _move_from(connection, batch, Status.VALIDATING, Status.FAILED, self.now)

        return await self._database.run(refused)

    async def answered(self, batch: Batch) -> set[int]:
        """The lines that are answered."""
        query = "SELECT line FROM answers WHERE batch = ?"
        rows = await self._database.run(lambda c: c.execute(query, (batch.id,)).fetchall())
        return {line for (line,) in rows}

    async def record(self, batch: Batch, answers: Iterable[Answer]) -> Batch:
        """Keep answers, only the first for each line, and count them; returns the changed batch."""

        def record(connection: Connection) -> Batch:
            counts, size = {False: 0, True: 0}, 0
            for answer in answers:
                added = connection.execute(
                    "INSERT OR IGNORE INTO answers (batch, line, failed, body) VALUES (?, ?, ?, ?)",
                    (batch.id, answer.line, answer.failed, answer.body),
                ).rowcount
                counts[answer.failed] += added
                size += added * len(answer.body)
            if size:
                connection.execute(
                    "UPDATE batches SET completed = completed + ?, failed = failed + ?, "
                    "answer_bytes = answer_bytes + ?, moved_at = ? WHERE id = ?",
                    (counts[False], counts[True], size, self.now, batch.id),
                )
            return batch_of(connection, batch.id)

        return await self._database.run(record)

    async def held(self, tenant: str) -> int:
        """Bytes of a tenant's files and answers."""
        return await self._database.run(lambda connection: held(connection, tenant)[1])

    async def finalizing(self, batch: Batch) -> Batch:
        """Give a batch whose lines are all answered the status in which its files are written."""
        return await self._database.run(
            lambda c: _move_from(c, batch, Status.IN_PROGRESS, Status.FINALIZING, self.now)
        )

    async def finish(
        self, batch: Batch, status: Status, output: StoredFile | None, errors: StoredFile | None
    ) -> Batch:
        """End a batch with the records of its result files, whose contents were written before."""

        def finish(connection: Connection) -> Batch:
            for file in filter(None, (output, errors)):
                put_file(connection, file)
            connection.execute(
                "UPDATE batches SET output_file_id = ?, error_file_id = ?, answer_bytes = 0 "
                "WHERE id = ?",
                (output and output.id, errors and errors.id, batch.id),
            )
            connection.execute("DELETE FROM answers WHERE batch = ?", (batch.id,))
            return move(connection, batch, status, self.now)

        ended = await self._database.run(finish)
        await self._database.shrink()
        return ended

    async def forget(self, keep_seconds: int) -> tuple[list[str], set[str], set[str]]:
        """Delete expired files, and ended batches that were made `keep_seconds` ago or earlier.

        Returns the ids of the deleted files, of all other files, and of the unfinished batches.
        """

        def forget(connection: Connection) -> tuple[list[str], set[str], set[str]]:
            used = f"SELECT input_file_id FROM batches WHERE {IS_UNFINISHED}"
            old = files_where(connection, f"expires_at <= ? AND id NOT IN ({used})", self.now)
            connection.executemany("DELETE FROM files WHERE id = ?", [(file.id,) for file in old])
            connection.execute(
                f"DELETE FROM batches WHERE NOT {IS_UNFINISHED} AND created_at <= ?",
                (self.now - keep_seconds,),
            )
            left = {name for (name,) in connection.execute("SELECT id FROM files")}
            running = batches_where(connection, IS_UNFINISHED)
            return [file.id for file in old], left, {batch.id for batch in running}

        return await self._database.run(forget)


def _move_from(
    connection: Connection, batch: Batch, before: Status, after: Status, now: int
) -> Batch:
    """Change a batch's status from `before` to `after`; it stays in any other status."""
    present = batch_of(connection, batch.id)
    return move(connection, present, after, now) if present.status is before else present
