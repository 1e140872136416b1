"""Runs one batch, from its present state to its end."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from service.plugins.batches.folder import Folder
from service.plugins.batches.lines import (
    Line,
    TryLater,
    answer_line,
    parse_lines,
    read_lines,
    render_error,
)
from service.plugins.batches.metrics import BatchMetrics
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.store import (
    Answer,
    Batch,
    Lease,
    Problem,
    Purpose,
    Status,
    Store,
    StoredFile,
    new_file_id,
)
from service.runtime.parts import Call
from service.tenants.tenant import Tenant, Tier

_log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
LEAST_REST_SECONDS = 10.0
"""Shortest rest, because after each rest the input file is read from its start."""
LONGEST_REST_SECONDS = 60.0
_MOST_PROBLEMS = 100
_AFTER_EXPIRY_SECONDS = 60.0
"""Seconds from a batch's expiry to its lines' deadlines, so that the batch expires first."""
_AHEAD = 2
"""Lines sent beyond the free slots: they wait there, so that no slot stays empty."""
_GIVEN_UP_AT_ONCE = 500
_GIVEN_UP = {
    Status.EXPIRED: ("batch_expired", "The batch expired before this request was answered."),
    Status.CANCELLED: ("batch_cancelled", "The batch was cancelled before this request."),
}


@dataclass(frozen=True, slots=True)
class RunContext:
    """Parts of a service that its batches use.

    `call` answers a line; `tenant_of` finds a tenant that has a live key; `free_slots` gives the
    number of lines that can start now; `max_line_bytes` limits a line; `clock` gives seconds since
    1970.
    """

    settings: BatchSettings
    store: Store
    folder: Folder
    metrics: BatchMetrics
    call: Call
    tenant_of: Callable[[str], Tenant | None]
    free_slots: Callable[[], int]
    max_line_bytes: int
    clock: Callable[[], float] = time.time

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return int(self.clock())

    def tenant(self, name: str) -> Tenant | None:
        """The tenant, unless it has no live key or may not use the tier of batches."""
        tenant = self.tenant_of(name)
        return tenant if tenant is not None and Tier.FLEX in tenant.tiers else None


class BatchRun:
    """Runs a batch whose lease this process holds.

    The run may be cancelled at any time. The next process with the lease continues with the lines
    that have no answer in the store.
    """

    def __init__(self, batch: Batch, lease: Lease, context: RunContext) -> None:
        self._batch = batch
        self._lease = lease
        self._context = context

    async def run(self) -> float:
        """Run the batch to its end and return 0, or return the seconds for which it must pause."""
        self._batch = await self._lease.record(())
        if self._batch.status is Status.VALIDATING:
            await self._validate()
        if self._batch.status is Status.IN_PROGRESS and (rest := await self._answer()):
            return rest
        if (end := self._final_status()) is not None:
            await self._end(end)
        batch = self._batch
        self._context.metrics.batch_ended(batch.status)
        _log.info("batch %s of %s: %s, %s", batch.id, batch.tenant, batch.status, _counts(batch))
        await self._context.folder.forget_input(batch.id)
        return 0.0

    def _final_status(self) -> Status | None:
        """The status with which the batch ends now; None for a batch that has failed already."""
        batch = self._batch
        if batch.status is Status.FAILED:
            return None
        if batch.status is Status.CANCELLING:
            return Status.CANCELLED
        if batch.total and batch.completed + batch.failed == batch.total:
            # An earlier run may have expired the batch and given its last lines errors.
            late = batch.status is Status.IN_PROGRESS and batch.moved_at >= batch.expires_at
            return Status.EXPIRED if late else Status.COMPLETED
        if self._expired:
            return Status.EXPIRED
        raise RuntimeError(f"{batch.id}: lines of its input file are missing: {_counts(batch)}")

    @property
    def _expired(self) -> bool:
        return self._context.now >= self._batch.expires_at

    async def _validate(self) -> None:
        """Check that every line is a request for the endpoint, with a name of its own."""
        total, names, problems = 0, set[bytes](), list[Problem]()
        async with aclosing(self._parsed(self._context.max_line_bytes)) as parsed:
            async for lines in parsed:
                for line in lines:
                    if isinstance(line, Problem):
                        problems.append(line)
                        continue
                    total += 1
                    name = blake2b(line.custom_id.encode(), digest_size=16).digest()
                    if name in names:
                        message = "custom_id must differ from that of every earlier line."
                        problem = Problem("duplicate_custom_id", message, line.number, "custom_id")
                        problems.append(problem)
                    names.add(name)
                if total > (most := self._context.settings.max_lines):
                    message = f"A batch may have at most {most} lines, and this one has more."
                    problems.append(Problem("too_many_lines", message))
                if len(problems) >= _MOST_PROBLEMS or total > most:
                    break
        if not total and not problems:
            problems.append(Problem("empty_file", "The input file has no line."))
        if problems:
            shown, end = problems[:_MOST_PROBLEMS], Status.FAILED
            self._batch = await self._lease.move(Status.VALIDATING, end, problems=shown)
        else:
            begun = Status.IN_PROGRESS
            self._batch = await self._lease.move(Status.VALIDATING, begun, total=total)

    async def _parsed(self, most: int | None = None) -> AsyncGenerator[list[Line | Problem], None]:
        """The input file's lines, a few at a time; a line of more than `most` bytes is a problem.

        Lines that passed validation are read without a limit, because the setting may have been
        lowered since; each request must still keep to the limits of its route.
        """

        batch = self._batch
        path = await self._context.folder.input_of(batch.id, batch.input_file_id)
        async with aclosing(read_lines(path, most)) as read:
            async for chunk in read:
                yield await asyncio.to_thread(parse_lines, chunk, batch.endpoint, most)

    async def _unanswered(self) -> AsyncGenerator[Line, None]:
        """The lines that have no answer."""
        answered = await self._lease.answered()
        async with aclosing(self._parsed()) as parsed:
            async for lines in parsed:
                for line in lines:
                    if isinstance(line, Line) and line.number not in answered:
                        yield line

    async def _answer(self) -> float:
        """Answer lines until all are, or until the batch is cancelled, expires or must pause.

        Returns the seconds of the pause.
        """
        batch, rest = self._batch, 0.0
        _log.info("batch %s of %s: answering, %s", batch.id, batch.tenant, _counts(batch))
        running = set[asyncio.Task[Answer | TryLater]]()
        async with aclosing(self._unanswered()) as lines:
            try:
                while self._batch.status is Status.IN_PROGRESS and not self._expired:
                    rest = rest or await self._start(running, lines)
                    if not running:
                        return rest
                    rest = max(rest, await self._collect(running))
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)
        return 0.0

    async def _start(
        self, running: set["asyncio.Task[Answer | TryLater]"], lines: AsyncGenerator[Line, None]
    ) -> float:
        """Send as many lines as there are free slots; returns the seconds to pause, 0 for none."""
        batch, context = self._batch, self._context
        tenant = context.tenant(batch.tenant)
        if tenant is None:
            _log.warning("batch %s: %s has no live key or no flex", batch.id, batch.tenant)
            return LEAST_REST_SECONDS
        if await context.store.used_bytes(tenant.name) >= context.settings.tenant_bytes:
            _log.warning("batch %s: %s has no space and must delete files", batch.id, tenant.name)
            return LONGEST_REST_SECONDS
        while len(running) < context.free_slots() + _AHEAD:
            if (line := await anext(lines, None)) is None:
                break
            left_s = batch.expires_at - context.now + _AFTER_EXPIRY_SECONDS
            work = answer_line(context.call, tenant, batch, line, left_s)
            running.add(asyncio.create_task(work))
        return 0.0

    async def _collect(self, running: set["asyncio.Task[Answer | TryLater]"]) -> float:
        """Wait a second for answers, and store them; returns the seconds to pause, 0 for none."""
        done, _ = await asyncio.wait(
            running, timeout=LOOK_SECONDS, return_when=asyncio.FIRST_COMPLETED
        )
        running -= done
        results = [task.result() for task in done]
        answers = [each for each in results if isinstance(each, Answer)]
        self._batch = await self._lease.record(answers)
        if answers:
            failed = sum(answer.failed for answer in answers)
            self._context.metrics.lines_answered(len(answers) - failed, failed)
        refused = [each for each in results if isinstance(each, TryLater)]
        if not refused:
            return 0.0
        longest = max(refused, key=lambda each: each.seconds)
        rest = min(max(longest.seconds, LEAST_REST_SECONDS), LONGEST_REST_SECONDS)
        _log.info("batch %s rests %g s: refused with %d", self._batch.id, rest, longest.status)
        return rest

    async def _end(self, status: Status) -> None:
        """Write the result files; if the batch ends early, lines without an answer get an error."""
        if status is Status.COMPLETED:
            self._batch = await self._lease.move(Status.IN_PROGRESS, Status.FINALIZING)
        elif self._batch.total:
            await self._give_up(status)
        self._batch = await self._lease.finish(status, *await self._keep_results())

    async def _keep_results(self) -> list[StoredFile | None]:
        """Write and store the output file and the error file; None for an empty one.

        Files of an interrupted attempt have no record, so a sweep removes them. Raises as
        `Folder.keep`.
        """
        folder = self._context.folder
        uploads = {kind: folder.new_upload() for kind in ("output", "error")}
        try:
            await self._lease.write(*uploads.values())
            return [await self._keep(kind, upload) for kind, upload in uploads.items()]
        finally:
            # On a full disk each attempt would otherwise leave a part of a file.
            for upload in uploads.values():
                await asyncio.to_thread(upload.unlink, missing_ok=True)

    async def _keep(self, kind: str, upload: Path) -> StoredFile | None:
        """Store the content of a result file; returns its record, None if it is empty."""
        if not (size := (await asyncio.to_thread(upload.stat)).st_size):
            return None
        batch, now = self._batch, self._context.now
        name, expires_at = f"{batch.id}_{kind}.jsonl", now + batch.keep_seconds
        file = StoredFile(new_file_id(), batch.tenant, name, Purpose.OUTPUT, size, now, expires_at)
        await self._context.folder.keep(upload, file.id)
        return file

    async def _give_up(self, status: Status) -> None:
        code, message = _GIVEN_UP[status]
        errors = list[Answer]()
        async with aclosing(self._unanswered()) as lines:
            async for line in lines:
                body = render_error(self._batch.id, line, code, message)
                errors.append(Answer(line.number, failed=True, body=body))
                if len(errors) == _GIVEN_UP_AT_ONCE:
                    await self._keep_errors(status, errors)
        await self._keep_errors(status, errors)

    async def _keep_errors(self, status: Status, errors: list[Answer]) -> None:
        self._batch = await self._lease.record(errors)
        self._context.metrics.lines_unanswered(status, len(errors))
        errors.clear()


def _counts(batch: Batch) -> str:
    return f"{batch.completed} of {batch.total} lines answered, {batch.failed} with an error"
