"""Files and batches as records, and the one interface of the stores that keep them.

All calls of a store raise Unavailable while it cannot be reached.
"""

import secrets
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol, Self

from service.common.error_messages import quote
from service.errors import InvalidRequest, NotFound, PayloadTooLarge
from service.plugins.batches.settings import BatchSettings


class Status(StrEnum):
    """OpenAI's statuses of a batch."""

    VALIDATING = "validating"
    FAILED = "failed"
    IN_PROGRESS = "in_progress"
    FINALIZING = "finalizing"
    COMPLETED = "completed"
    EXPIRED = "expired"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


UNFINISHED = (Status.VALIDATING, Status.IN_PROGRESS, Status.FINALIZING, Status.CANCELLING)
"""Statuses of a batch that has not ended."""


class Purpose(StrEnum):
    """OpenAI's purposes of files that this service supports."""

    BATCH = "batch"
    OUTPUT = "batch_output"


def new_file_id() -> str:
    """An id that nobody can guess."""
    return f"file-{secrets.token_hex(16)}"


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file of a tenant; times are seconds since 1970."""

    id: str
    tenant: str
    name: str
    purpose: Purpose
    bytes: int
    created_at: int
    expires_at: int

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The file with these fields, whose purpose is a string."""
        return cls(**{**row, "purpose": Purpose(row["purpose"])})


@dataclass(frozen=True, slots=True)
class Reservation:
    """The bytes reserved for a file that is being uploaded.

    By `expires_at`, in seconds since 1970, the upload has certainly finished or failed.
    """

    id: str
    tenant: str
    bytes: int
    expires_at: int


@dataclass(frozen=True, slots=True)
class Problem:
    """A problem of an input file; `line` counts from 1, None for the whole file."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of a tenant; times are seconds since 1970.

    `total` is the number of its lines. Each line is answered once: `completed` counts answers,
    `failed` errors. `times` has the beginning of each status after the first. `moved_at` is the
    time of the last answer or change of status. `answer_bytes` is the size of the answers that are
    not in a file yet; `keep_seconds` is how long the result files are kept.
    """

    id: str
    tenant: str
    endpoint: str
    input_file_id: str
    completion_window: str
    created_at: int
    expires_at: int
    keep_seconds: int
    metadata: Mapping[str, str] | None = None
    status: Status = Status.VALIDATING
    total: int = 0
    completed: int = 0
    failed: int = 0
    problems: tuple[Problem, ...] = ()
    output_file_id: str | None = None
    error_file_id: str | None = None
    times: Mapping[Status, int] = field(default_factory=dict)
    moved_at: int = 0
    answer_bytes: int = 0

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Self:
        """The batch with these fields, in which statuses are strings and problems plain objects."""
        times = {Status(name): at for name, at in row["times"].items()}
        problems = tuple(Problem(**problem) for problem in row["problems"])
        found = {"status": Status(row["status"]), "times": times, "problems": problems}
        return cls(**{**row, **found})

    def under_new_id(self) -> Self:
        """The batch at its beginning, under a new id that nobody can guess."""
        return replace(self, id=f"batch_{secrets.token_hex(16)}", moved_at=self.created_at)


@dataclass(frozen=True, slots=True)
class Answer:
    """The line of an output or error file that answers a line of an input file."""

    line: int
    failed: bool
    body: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """A page of a list: at most `limit` records after the record of the id `after`."""

    after: str | None = None
    limit: int = 20
    newest_first: bool = True


class LeaseLost(Exception):
    """The lease has ended, so another process may run the batch; nothing was written."""


class Lease(Protocol):
    """The exclusive right to run a batch, with the operations of its holder.

    Each call is one transaction. Once the lease has ended, calls that write raise LeaseLost and
    write nothing.
    """

    async def record(self, answers: Iterable[Answer]) -> Batch:
        """Store answers, the first for each line, and count them; returns the new batch."""

    async def move(
        self, before: Status, after: Status, *, total: int = 0, problems: Sequence[Problem] = ()
    ) -> Batch:
        """Change the status, unless the batch was cancelled meanwhile.

        Also stores the result of the validation: `total` lines or `problems`.
        """

    async def answered(self) -> set[int]:
        """The numbers of the lines that have an answer."""

    async def write(self, output: Path, errors: Path) -> None:
        """Write the answers into new files in the order of lines: failed ones into `errors`."""

    async def finish(
        self, status: Status, output: StoredFile | None, errors: StoredFile | None
    ) -> Batch:
        """End a batch with the records of its result files, whose contents were written before."""

    async def release(self) -> None:
        """Give up the lease, so that another process may run the batch."""


class Store(Protocol):
    """Files and batches of all tenants, and the addresses of files that are in buckets.

    Where a tenant is given, another tenant's file or batch raises NotFound. Raises InvalidRequest
    beyond a tenant's limits.
    """

    async def reserve(self, reservation: Reservation) -> int:
        """Reserve the bytes that a file needs, or what is left of the tenant's limit;

        returns their number. They stay reserved until `add_file`, `cancel_reservation` or the
        reservation's expiry. InvalidRequest if the tenant may have no more files.
        """

    async def cancel_reservation(self, file_id: str) -> None:
        """Release the bytes that are reserved for a file, if there are any."""

    async def used_bytes(self, tenant: str) -> int:
        """Bytes of a tenant's files, answers and reservations."""

    async def add_file(self, file: StoredFile) -> None:
        """Add a file whose content is stored already; raises as `reserve`, and PayloadTooLarge."""

    async def file(self, tenant: str, file_id: str) -> StoredFile:
        """One file."""

    async def files(
        self, tenant: str, page: Page, purpose: str | None = None
    ) -> tuple[list[StoredFile], bool]:
        """Files of a page, and True if there are more."""

    async def delete_file(self, tenant: str, file_id: str) -> None:
        """Delete a file; InvalidRequest for one that an unfinished batch reads."""

    async def create(self, batch: Batch) -> Batch:
        """Add a batch of an input file under a new id; its validation begins."""

    async def batch(self, tenant: str | None, batch_id: str) -> Batch:
        """One batch; of any tenant if none is given."""

    async def batches(self, tenant: str, page: Page) -> tuple[list[Batch], bool]:
        """Batches of a page, and True if there are more."""

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Ask a batch to end; InvalidRequest for one that has ended."""

    async def unfinished(self) -> list[Batch]:
        """All batches that have not ended, the oldest first."""

    async def ended(self, limit: int) -> list[Batch]:
        """At most `limit` batches of all tenants that have ended, the newest first."""

    async def take(self, batch_id: str) -> Lease | None:
        """The lease of an unfinished batch; None while another process holds it."""

    async def expire(self, keep_seconds: int) -> tuple[list[str], set[str], set[str]]:
        """Delete expired files, and ended batches that were made `keep_seconds` ago or earlier.

        Returns the ids of the deleted files, of all other files, and of the unfinished batches.
        """

    async def keep_address(self, file_id: str, address: str) -> None:
        """Record the bucket's address for a file, before the file is uploaded there."""

    async def address_of(self, file_id: str) -> str | None:
        """The address of the bucket that has a file; None if none does."""

    async def forget_address(self, file_id: str) -> None:
        """Remove an address, if it is there."""

    async def list_orphans(self, known: Collection[str]) -> list[str]:
        """Ids of files that are not in `known` and whose addresses are hours old."""

    async def close(self) -> None:
        """Finish pending calls, and close the file or the connections."""


def free_space(settings: BatchSettings, count: int, size: int) -> int:
    """Bytes that a new file may have beside a tenant's `count` files of `size` bytes together;
    InvalidRequest if there may be no more files.
    """
    if count >= settings.max_files:
        raise _too_many_files(settings, "file", "got one more")
    return min(settings.max_file_bytes, settings.tenant_bytes - size)


def too_large(settings: BatchSettings, space: int) -> PayloadTooLarge:
    """The error for a file that is larger than the space that its tenant has."""
    if space >= settings.max_file_bytes:
        message = f"file: at most {settings.max_file_bytes} bytes, got more"
    else:
        message = (
            f"file: your files, uploads and answers may hold {settings.tenant_bytes} bytes "
            f"together, and {max(0, space)} are left; delete files"
        )
    return PayloadTooLarge(message, param="file")


def check_creation(
    settings: BatchSettings, batch: Batch, purpose: str | None, unfinished: int, files: int
) -> None:
    """Raise InvalidRequest for a batch that may not be created.

    Its file is missing (`purpose` is None) or has another purpose, or the tenant has too many
    unfinished batches or files.
    """
    if purpose is None:
        message = unknown("file", batch.input_file_id).message
        raise InvalidRequest(message, param="input_file_id")
    if purpose != Purpose.BATCH:
        message = f"input_file_id: its purpose must be batch, got {purpose}"
        raise InvalidRequest(message, param="input_file_id")
    if unfinished >= settings.max_batches:
        message = f"at most {settings.max_batches} unfinished batches, got one more; "
        raise InvalidRequest(f"{message}wait, or cancel one", code="limit_reached")
    if files >= settings.max_files:
        raise _too_many_files(settings, "input_file_id", "and the batch would write more")


def check_cancellation(batch: Batch) -> None:
    """Raise InvalidRequest for a batch that has ended."""
    if batch.status not in UNFINISHED:
        message = f"batch_id: the batch has ended already, as {batch.status}"
        raise InvalidRequest(message, param="batch_id")


def in_use(batch_id: str) -> InvalidRequest:
    """The error for deleting a file that this unfinished batch reads."""
    message = f"file_id: the batch {batch_id} reads it; cancel the batch first"
    return InvalidRequest(message, code="file_in_use", param="file_id")


def unknown(kind: str, name: str) -> NotFound:
    """The error for a file or batch that does not exist or belongs to another tenant."""
    return NotFound(f"{kind}_id: there is no {kind} {quote(name)}", param=f"{kind}_id")


def not_listed(after: str) -> InvalidRequest:
    """The error for an `after` that is not in the list."""
    return InvalidRequest(f"after: no {quote(after)} in this list", param="after")


def _too_many_files(settings: BatchSettings, param: str, reason: str) -> InvalidRequest:
    message = f"{param}: at most {settings.max_files} files, {reason}; delete files"
    return InvalidRequest(message, code="limit_reached", param=param)
