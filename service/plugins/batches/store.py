"""The interfaces of a store of files and batches: for tenants, for the runner, for one run.

All calls raise Unavailable while the store cannot be reached.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from service.plugins.batches.records import (
    Answer,
    Arrival,
    Batch,
    Page,
    Problem,
    Status,
    StoredFile,
)


class BatchStore(Protocol):
    """Files and batches by tenant; another tenant's file or batch is NotFound.

    Raises InvalidRequest beyond the tenant's limits.
    """

    async def reserve(self, arrival: Arrival) -> int:
        """Reserve bytes for a file: those it asks for, or as many as its tenant has left.

        Returns their number. They are held until `add_file`, `give_back` or the arrival's expiry.
        InvalidRequest if the tenant may have no more files.
        """

    async def give_back(self, file_id: str) -> None:
        """Hold nothing more for a file that has not come; nothing is held for others."""

    async def add_file(self, file: StoredFile) -> None:
        """Add a file whose content is in its place; raises as `reserve`, and PayloadTooLarge."""

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

    async def batch(self, tenant: str, batch_id: str) -> Batch:
        """One batch."""

    async def batches(self, tenant: str, page: Page) -> tuple[list[Batch], bool]:
        """Batches of a page, and True if there are more."""

    async def cancel(self, tenant: str, batch_id: str) -> Batch:
        """Ask a batch to end; InvalidRequest for one that has ended."""


class LeaseLost(Exception):
    """A batch whose lease ended: another process may run it, and nothing was written."""


class Journal(Protocol):
    """Answers and status of one batch, written by the holder of its lease.

    Each call is one transaction; those that write raise LeaseLost, and have written nothing, once
    the lease is another's.
    """

    async def read(self) -> Batch:
        """The batch as it is now."""

    async def validated(self, total: int) -> Batch:
        """Begin to answer the lines of a batch, unless it was cancelled meanwhile."""

    async def refused(self, problems: Sequence[Problem]) -> Batch:
        """End a batch whose input file has problems, unless it was cancelled meanwhile."""

    async def answered(self) -> set[int]:
        """The lines that are answered."""

    async def record(self, answers: Iterable[Answer]) -> Batch:
        """Keep answers, only the first for each line, and count them; returns the changed batch."""

    async def held(self) -> int:
        """Bytes of the files and answers of the batch's tenant, and those it has reserved."""

    async def finalizing(self) -> Batch:
        """Give a batch whose lines are all answered the status in which its files are written."""

    async def write(self, output: Path, errors: Path) -> None:
        """Write the answers into new files, each in its lines' order: those that failed apart."""

    async def finish(
        self, status: Status, output: StoredFile | None, errors: StoredFile | None
    ) -> Batch:
        """End a batch with the records of its result files, whose contents were written before."""


class Lease(Protocol):
    """The right to run a batch, which one process holds at a time."""

    @property
    def journal(self) -> Journal:
        """The journal in which the holder writes."""

    async def release(self) -> None:
        """Give the right back, so that another process may run the batch."""


class Register(Protocol):
    """Batches of all tenants."""

    async def take(self, batch_id: str) -> Lease | None:
        """The lease of an unfinished batch; None while another process holds it."""

    async def unfinished(self) -> list[Batch]:
        """All batches that have not ended, the oldest first."""

    async def latest(self, limit: int) -> list[Batch]:
        """Batches of all tenants, at most `limit` of each kind: those that have not ended, the
        oldest first, then those that ended, the newest first.
        """

    async def newest(self, limit: int) -> list[Batch]:
        """At most `limit` batches, the newest first."""

    async def find(self, batch_id: str) -> Batch | None:
        """A batch of any tenant; None if there is no batch of this id."""

    async def forget(self, keep_seconds: int) -> tuple[list[str], set[str], set[str]]:
        """Delete expired files, and ended batches that were made `keep_seconds` ago or earlier.

        Returns the ids of the deleted files, of all other files, and of the unfinished batches.
        """

    async def close(self) -> None:
        """Finish what was begun, and close the file or the connections."""
