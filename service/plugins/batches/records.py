"""A file and a batch as the store keeps them, with OpenAI's statuses."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum


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
    """OpenAI's purposes of a file that this service has."""

    BATCH = "batch"
    OUTPUT = "batch_output"


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


@dataclass(frozen=True, slots=True)
class Arrival:
    """A file that is being uploaded, and the bytes that are reserved for it.

    At `expires_at`, in seconds since 1970, it has come or never will.
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

    `total` is the number of its lines, each of which is answered once: `completed` with an answer,
    `failed` with an error. `times` has the beginning of each status after the first. `moved_at` is
    the time of the last answer or change of status. `answer_bytes` is the size of the answers that
    are not in a file yet, `keep_seconds` the time for which its result files are kept.
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

    def time_of(self, status: Status) -> int | None:
        """The time at which a status after the first began; None if it has not begun."""
        return self.times.get(status)

    def named(self) -> "Batch":
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
