"""The list of a base model's files with their digests, and the check of a folder against it."""

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.common.files import Digest, file_digest, write_atomically
from service.errors import ConfigurationError
from service.models.base_model import base_model_digest
from service.sources.reference import FileRefused, read_document

_log = logging.getLogger(__name__)


class ModelRefused(FileRefused):
    """A file of a base model breaks a rule; the owner is the model's folder or address."""

    kind: ClassVar[str] = "model"


LIST_FILE = "model-files.json"
MODEL_FILE_NAME = r"^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9._-]{0,127}){0,3}$"
"""A path below the model's folder: no "..", no hidden file or folder."""
_READERS = 8


class FileList(BaseModel):
    """The digest of each file by its path, and the address from which they came."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, populate_by_name=True)

    version: Literal[1] = Field(1, alias="schema")
    source: str = Field(max_length=1024)
    files: Annotated[
        Mapping[Annotated[str, Field(pattern=MODEL_FILE_NAME)], Digest],
        Field(min_length=1, max_length=10_000),
    ]

    @property
    def digest(self) -> str:
        """`sha256:<hex>` over names and digests: the same for the same files from any source."""
        text = json.dumps({"files": dict(self.files)}, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()

    def write(self, folder: Path) -> None:
        """Write the list into the model's folder."""
        document = self.model_dump(mode="json", by_alias=True)
        document["files"] = dict(sorted(self.files.items()))
        write_atomically(folder / LIST_FILE, (json.dumps(document, indent=1) + "\n").encode())


def read_file_list(folder: Path) -> FileList | None:
    """The list in a folder, None if there is none; raises ModelRefused if it is malformed."""
    return read_document(folder, LIST_FILE, FileList, ModelRefused)


def listed_files(folder: Path) -> set[str]:
    """Paths of all files of a model's folder, except its list and what is hidden."""
    found = set()
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found |= {
            (Path(place) / name).relative_to(folder).as_posix()
            for name in names
            if not name.startswith(".")
        }
    return found - {LIST_FILE}


def digests_of(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Digests of files, computed by several threads."""
    wanted = sorted(names)
    with ThreadPoolExecutor(_READERS) as readers:
        found = readers.map(file_digest, (folder / name for name in wanted))
        return dict(zip(wanted, found, strict=True))


def check_files(folder: Path, listed: FileList) -> None:
    """Read every byte of the folder; ModelRefused names the first file that differs.

    A file that is not listed is refused too, because the engine might read it.
    """
    there = listed_files(folder)
    for name in sorted(there ^ listed.files.keys()):
        if name in there:
            raise ModelRefused(
                folder.name, name, "is not listed", f"only files of {LIST_FILE}", "an extra file"
            )
        raise ModelRefused(folder.name, name, "is missing", "a file", "nothing")
    for name, found in digests_of(folder, listed.files).items():
        if found != listed.files[name]:
            raise ModelRefused(folder.name, name, "digest differs", listed.files[name], found)


def pin_folder(folder: Path, source: str) -> FileList:
    """The list of a folder's files, written into it unless it is there.

    `source` is the address to write. Raises ConfigurationError if the folder holds no model.
    """
    base_model_digest(folder)
    listed = read_file_list(folder)
    if listed is None:
        listed = FileList(source=source, files=digests_of(folder, listed_files(folder)))
        listed.write(folder)
    return listed


def checked_digest(folder: Path, pin: str | None, setting: str = "model.digest") -> str:
    """Check the folder against its pin, and return the base's digest, to which adapters are bound.

    A `pin` is either the digest of the folder's file list, for which every byte is read, or the
    base's digest, for which only headers are read. Raises ModelRefused naming the file that
    differs, ConfigurationError, naming the `setting`, for any other pin.
    """
    listed = read_file_list(folder) if pin is not None else None
    if listed is not None and listed.digest == pin:
        started = time.monotonic()
        check_files(folder, listed)
        _log.info("%s: every file is the pinned one (%.1f s)", folder, time.monotonic() - started)
        return base_model_digest(folder)
    digest = base_model_digest(folder)
    if pin in (None, digest):
        return digest
    files = "" if listed is None else f" or, of its files, {listed.digest}"
    raise ConfigurationError(f"{setting}: must be that of {folder}, {digest}{files}, got {pin}")
