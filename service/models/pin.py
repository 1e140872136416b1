"""Pins of a base model: a start that is refused when the model's files are others."""

import logging
import time
from pathlib import Path

from service.errors import ConfigurationError
from service.models.digest import base_model_digest
from service.models.file_list import (
    FileList,
    check_files,
    digests_of,
    listed_files,
    read_file_list,
)

_log = logging.getLogger(__name__)


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
    """The digest of the base, to which its adapters are bound, if the folder is the pinned one.

    A `pin` is the digest of the folder's list of files, and then every byte is read, or the base's
    own, which costs no reading. Raises ModelRefused naming the file that differs,
    ConfigurationError, naming the `setting`, for any other pin.
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
