"""A file and a batch as the store keeps them, with OpenAI's statuses."""

from collections.abc import Mapping
from dataclasses import dataclass, field
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
"""Statuses that a batch leaves again."""


class Purpose(StrEnum):
    """OpenAI's purposes of a file, as far as they are served."""

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
class Problem:
    """Something in an input file that is no request; `line` begins at 1."""

    code: str
    message: str
    line: int | None = None
    param: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of a tenant; times are seconds since 1970.

    `total` lines are requests, and each of them is answered once: `completed` with an answer,
    `failed` with an error. `times` are those at which later statuses began, and `moved_at` is that
    at which a line was last answered or the status changed. `answer_bytes` is the size of the
    answers that no file holds yet. `keep_seconds` is how long the files of its results are kept.
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
        """The time at which a later status began; None for one that it has not had."""
        return self.times.get(status)


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list: at most `limit` records after the one named, the newest first."""

    after: str | None = None
    limit: int = 20
    newest_first: bool = True
