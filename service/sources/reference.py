"""Addresses of artifacts, the error for a file that breaks a rule, and parsing of documents."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar, TypeVar

from pydantic import BaseModel, ValidationError

from service.common.error_messages import REQUIRED, problems, quote
from service.errors import ConfigurationError

_SHOWN = 200


class FileRefused(ConfigurationError):
    """A file breaks a rule; the message has owner, file, rule, expected value and found value.

    `owner` is the name of the adapter or model, or what is known of it. `file` is relative to the
    owner's folder, so that the message shows no path of the machine.
    """

    kind: ClassVar[str]

    def __init__(self, owner: str, file: str, reason: str, expected: object, found: object):
        self.owner = owner
        self.file = file
        self.reason = reason
        self.expected = _shown(expected)
        self.found = _shown(found)
        super().__init__(
            f"{self.kind} {owner}: {file}: {reason}: expected {self.expected}, found {self.found}"
        )


Refuse = Callable[[str, object, object], FileRefused]
"""Makes the refusal of one file from the rule, the expected and the found value."""


def _shown(value: object) -> str:
    # The shown values may come from a hostile file, so they are cut and made printable.
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in str(value)[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."


# The names of the OCI distribution specification, 1.1; the tag or digest is required.
_ADDRESS = re.compile(
    r"oci://(?P<host>[A-Za-z0-9.-]+(?::\d{1,5})?)"
    r"/(?P<repository>[a-z0-9]+(?:(?:\.|_|__|-+|/)[a-z0-9]+)*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127})|@(?P<digest>sha256:[0-9a-f]{64}))"
)


@dataclass(frozen=True, slots=True)
class Reference:
    """The place of an artifact; `version` is a tag or, for bytes that cannot change, a digest."""

    host: str
    repository: str
    version: str

    @property
    def is_digest(self) -> bool:
        """True if the version is a digest; a tag has no colon."""
        return ":" in self.version

    @property
    def name(self) -> str:
        """A name to show while the artifact's own is not known."""
        return self.repository.rpartition("/")[2]


def parse_reference(uri: str, kind: str) -> Reference:
    """Parse an oci:// address of a `kind` of thing; raises ConfigurationError."""
    found = _ADDRESS.fullmatch(uri)
    if found is None:
        raise ConfigurationError(
            f"{kind} source {uri}: expected oci://host/repository:tag or "
            "oci://host/repository@sha256:<64 hex>"
        )
    return Reference(found["host"], found["repository"], found["tag"] or found["digest"])


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
        raise refuse_invalid(partial(refused, owner, name), error, schema) from error


def refuse_invalid(
    refuse: Refuse, error: ValidationError, schema: type[BaseModel], *, root: int = 0
) -> FileRefused:
    """The refusal of a document by the first of its problems; see `problems` for `root`."""
    first, *others = problems(error.errors(include_url=False), schema, root=root)
    if first.reason.startswith("Invalid JSON"):
        return refuse("is not JSON", "an object", first.reason)
    rule = f"field {first.field}" if first.field else "is malformed"
    rule += f" (and {len(others)} more)" if others else ""
    if first.reason == REQUIRED:
        return refuse(rule, "a value", "nothing")
    expected, _, found = first.reason.removeprefix("must be ").partition(", got ")
    found = found or (quote(first.value) if first.telling else "another value")
    return refuse(rule, expected, found)
