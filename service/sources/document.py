"""JSON documents beside weights: read with a bound, and checked by a schema."""

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from service.common.error_messages import problems
from service.sources.refusal import FileRefused

MAX_DOCUMENT_BYTES = 1 << 20

Document = TypeVar("Document", bound=BaseModel)


def read_document(
    folder: Path, name: str, schema: type[Document], refused: type[FileRefused]
) -> Document | None:
    """The document of this name in a folder, None if there is none; raises as `parse_document`."""
    try:
        with (folder / name).open("rb") as file:
            raw = file.read(MAX_DOCUMENT_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise refused(folder.name, name, "cannot be read", "a file", error.strerror) from error
    return parse_document(raw, folder.name, name, schema, refused)


def parse_document(
    raw: bytes, owner: str, name: str, schema: type[Document], refused: type[FileRefused]
) -> Document:
    """Parse the bytes of an owner's document; `refused` names the field that breaks the schema."""
    if len(raw) > MAX_DOCUMENT_BYTES:
        raise refused(owner, name, "is too large", f"at most {MAX_DOCUMENT_BYTES} bytes", "more")
    try:
        return schema.model_validate_json(raw)
    except ValidationError as error:
        problem = next(problems(error.errors(include_url=False), schema))
        field = f"field {problem.field or 'none'}"
        raise refused(owner, name, field, problem.reason, "another value") from error
