"""Bodies of /v1/files and /v1/batches, as OpenAI's."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any, Generic, Literal, Protocol, Self, TypeVar

from pydantic import BeforeValidator, Field, StringConstraints
from starlette.responses import Response

from service.common.operations import OPERATIONS
from service.http.bodies import AnswerBody, RequestBody, render_items, with_data
from service.plugins.batches.store import Batch, Status, StoredFile


def endpoints() -> list[str]:
    """Paths of the requests that a batch may hold."""
    return sorted(path for path, does in OPERATIONS.items() if does and path[:2] == "/v")


def _with_endpoints(schema: dict[str, Any]) -> None:
    schema["enum"] = endpoints()


_Key = Annotated[str, StringConstraints(min_length=1, max_length=64)]
_Value = Annotated[str, StringConstraints(max_length=512)]
_MOST_PAIRS = 16
_TIMED = [status for status in Status if status is not Status.VALIDATING]


def _limit_pairs(value: Any) -> Any:
    """Refuse too many pairs before pydantic makes an error for each of, say, 100,000."""
    if isinstance(value, dict) and len(value) > _MOST_PAIRS:
        raise ValueError(f"at most {_MOST_PAIRS} keys, got {len(value)}")
    return value


_Metadata = Annotated[
    dict[_Key, _Value], Field(max_length=_MOST_PAIRS), BeforeValidator(_limit_pairs)
]


class ExpiresAfter(RequestBody):
    """Time after which the files of the results are removed."""

    anchor: Literal["created_at"]
    seconds: int = Field(ge=3600, le=2_592_000)


class BatchRequest(RequestBody):
    """Request to create a batch from a file."""

    input_file_id: str = Field(max_length=256)
    endpoint: str = Field(max_length=256, json_schema_extra=_with_endpoints)
    completion_window: str = Field(
        max_length=16,
        description="A number and `s`, `m`, `h` or `d`, such as `24h`.",
        examples=["24h"],
    )
    metadata: _Metadata | None = None
    output_expires_after: ExpiresAfter | None = None


class ProblemBody(AnswerBody):
    """An invalid line of the input file."""

    code: str
    message: str
    line: int | None
    param: str | None


class ProblemList(AnswerBody):
    """The first problems of an input file."""

    object: Literal["list"] = "list"
    data: list[ProblemBody]


class RequestCounts(AnswerBody):
    """The number of a batch's lines: all, answered, failed."""

    total: int
    completed: int
    failed: int


class BatchBody(AnswerBody):
    """A batch; times are seconds since 1970."""

    id: str
    object: Literal["batch"] = "batch"
    endpoint: str
    errors: ProblemList | None
    input_file_id: str
    completion_window: str
    status: Status
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: RequestCounts
    metadata: dict[str, str] | None

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """The body for a batch of the store."""
        times: dict[str, Any] = {f"{status}_at": batch.times.get(status) for status in _TIMED}
        problems = [ProblemBody(**asdict(problem)) for problem in batch.problems]
        return cls(
            id=batch.id,
            endpoint=batch.endpoint,
            errors=ProblemList(data=problems) if problems else None,
            input_file_id=batch.input_file_id,
            completion_window=batch.completion_window,
            status=batch.status,
            output_file_id=batch.output_file_id,
            error_file_id=batch.error_file_id,
            created_at=batch.created_at,
            expires_at=batch.expires_at,
            **times,
            request_counts=RequestCounts(
                total=batch.total, completed=batch.completed, failed=batch.failed
            ),
            metadata=None if batch.metadata is None else dict(batch.metadata),
        )


Item = TypeVar("Item", bound=AnswerBody)


class PageBody(AnswerBody, Generic[Item]):
    """A page of a list, as OpenAI's: pass its `last_id` as `after` to get the next page."""

    object: Literal["list"] = "list"
    data: list[Item]
    has_more: bool
    first_id: str | None
    last_id: str | None


class BatchList(PageBody[BatchBody]):
    """A page of batches, the newest first."""


class FileBody(AnswerBody):
    """A file; times are seconds since 1970."""

    id: str
    object: Literal["file"] = "file"
    bytes: int
    created_at: int
    expires_at: int
    filename: str
    purpose: str
    status: Literal["processed"] = "processed"

    @classmethod
    def of(cls, file: StoredFile) -> Self:
        """The body for a file of the store."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=file.created_at,
            expires_at=file.expires_at,
            filename=file.name,
            purpose=file.purpose,
        )


class FileList(PageBody[FileBody]):
    """A page of files."""


class FileDeleted(AnswerBody):
    """A file that was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True


class Named(Protocol):
    """Something with an id."""

    @property
    def id(self) -> str: ...


Record = TypeVar("Record", bound=Named)


async def page(
    kind: type[PageBody[Any]],
    of: Callable[[Record], AnswerBody],
    records: Sequence[Record],
    has_more: bool,
) -> Response:
    """The answer with a page of records; `of` converts a record to an item."""
    first, last = (records[0].id, records[-1].id) if records else (None, None)
    empty = kind(data=[], has_more=has_more, first_id=first, last_id=last)
    items = await render_items(map(of, records))
    return Response(with_data(empty, items), media_type="application/json")
