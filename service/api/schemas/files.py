"""Bodies of /v1/files, as OpenAI's."""

from typing import Literal, Self

from service.api.schemas.base import AnswerBody
from service.batches.records import StoredFile


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
        """A file of the store."""
        return cls(
            id=file.id,
            bytes=file.bytes,
            created_at=file.created_at,
            expires_at=file.expires_at,
            filename=file.name,
            purpose=file.purpose,
        )


class FileList(AnswerBody):
    """A page of files."""

    object: Literal["list"] = "list"
    data: list[FileBody]
    first_id: str | None
    last_id: str | None
    has_more: bool

    @classmethod
    def of(cls, files: list[StoredFile], has_more: bool) -> Self:
        """A page of the store."""
        data = [FileBody.of(file) for file in files]
        first, last = (data[0].id, data[-1].id) if data else (None, None)
        return cls(data=data, first_id=first, last_id=last, has_more=has_more)


class FileDeleted(AnswerBody):
    """A file that was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
