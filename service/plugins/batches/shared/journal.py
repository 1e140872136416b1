"""Journal of one running batch in a Redis or Valkey, which only the holder of the lease writes."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from service.plugins.batches.records import Answer, Batch, Problem, Status, StoredFile
from service.plugins.batches.shared.fields import batch_of, packed, packed_problems
from service.plugins.batches.shared.records import ROOT, SharedRecords, paired
from service.plugins.batches.shared.scripts import ANSWERED, ANSWERS, FINISH, MOVE, RECORD
from service.plugins.batches.store import LeaseLost

_OUTCOMES = ("completed", "failed")
_READ_AT_ONCE = 32
_READ_BYTES = 8 << 20
"""Bytes of answers after which no more are read at once: one may have 20 MB."""


class SharedJournal:
    """Answers and status of a batch; implements `batches.store.Journal`.

    Every script that writes compares `token` with the lease first. `clock` gives seconds since
    1970.
    """

    def __init__(
        self, records: SharedRecords, batch_id: str, token: str, clock: Callable[[], float]
    ) -> None:
        self._records = records
        self._id = batch_id
        self._token = token
        self._clock = clock

    async def read(self) -> Batch:
        return await self._run(RECORD)

    async def validated(self, total: int) -> Batch:
        return await self._run(MOVE, Status.VALIDATING, Status.IN_PROGRESS, "total", total)

    async def refused(self, problems: Sequence[Problem]) -> Batch:
        listed = packed_problems(problems)
        return await self._run(MOVE, Status.VALIDATING, Status.FAILED, "problems", listed)

    async def answered(self) -> set[int]:
        lines = await self._records.run(ANSWERED, self._id)
        return set(map(int, lines.split()))

    async def record(self, answers: Iterable[Answer]) -> Batch:
        flat: list[str | int | bytes] = []
        for answer in answers:
            flat += [answer.line, _OUTCOMES[answer.failed], answer.body]
        return await self._run(RECORD, *flat)

    async def held(self) -> int:
        tenant = (await self.read()).tenant
        return int(await self._records.ask(lambda client: client.hget(f"{ROOT}held", tenant)) or 0)

    async def finalizing(self) -> Batch:
        return await self._run(MOVE, Status.IN_PROGRESS, Status.FINALIZING)

    async def write(self, output: Path, errors: Path) -> None:
        """Write both files, a few answers at a time."""
        lines = sorted(await self.answered())
        paths = (output, errors)
        for path in paths:
            await asyncio.to_thread(path.touch, exist_ok=False)
        written = 0
        while written < len(lines):
            kept = await self._bodies(lines[written : written + _READ_AT_ONCE])
            await asyncio.to_thread(_append, paths, kept)
            written += len(kept)

    async def _bodies(self, lines: Sequence[int]) -> list[list[bytes]]:
        """The outcome and the body of each line, of the first ones if they are long."""
        kept = await self._records.run(ANSWERS, self._id, _READ_BYTES, *lines)
        if kept is None:
            raise LeaseLost(self._id)  # which ended the batch
        return [answer.split(b":", 1) for answer in kept]

    async def finish(
        self, status: Status, output: StoredFile | None, errors: StoredFile | None
    ) -> Batch:
        files = ("" if file is None else packed(file) for file in (output, errors))
        return await self._run(FINISH, status, *files)

    async def _run(self, script: str, *arguments: str | int | bytes) -> Batch:
        now = int(self._clock())
        fields = await self._records.run(script, self._id, self._token, now, *arguments)
        if not fields:
            raise LeaseLost(self._id)
        return batch_of(paired(fields))


def _append(paths: Sequence[Path], kept: Iterable[Sequence[bytes]]) -> None:
    """Append answers, each with its outcome before it, to the file of their outcome."""
    sorted_: dict[bytes, list[bytes]] = {outcome.encode(): [] for outcome in _OUTCOMES}
    for outcome, body in kept:
        sorted_[outcome].append(body)
    for path, bodies in zip(paths, sorted_.values(), strict=True):
        with path.open("ab") as file:
            file.writelines(bodies)
