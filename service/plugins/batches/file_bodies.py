"""Bodies of /v1/files, as OpenAI's."""

from typing import Literal, Self

from service.http.bodies import AnswerBody, Listed, PageBody
from service.plugins.batches.records import StoredFile


class FileBody(Listed):
    """A file; times are seconds since 1970."""

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


class FileList(PageBody[FileBody]):
    """A page of files."""


class FileDeleted(AnswerBody):
    """A file that was deleted."""

    id: str
    object: Literal["file"] = "file"
    deleted: Literal[True] = True
