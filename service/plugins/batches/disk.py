"""Files on a disk of this machine: put in their places whole, locked, and found once nobody needs
them.
"""

import fcntl
import os
import secrets
import time
from collections.abc import Collection
from pathlib import Path

from service.common.files import sync

ORPHAN_SECONDS = 2 * 3600
"""Age after which a file without a record is no longer part of an upload or a running batch."""
_NEW = "upload-"


def new_place(folder: Path) -> Path:
    """A new place for content that is still being written."""
    return folder / f"{_NEW}{secrets.token_hex(16)}"


def is_new(path: Path) -> bool:
    """True for a place of `new_place`, whose content was not complete."""
    return path.name.startswith(_NEW)


def place(upload: Path, path: Path) -> None:
    """Move a complete file to its place, on disk."""
    sync(upload)
    upload.replace(path)
    sync(path.parent)


def orphans(folder: Path, known: Collection[str]) -> list[Path]:
    """Files of a folder that are none of these names, and hours old."""
    oldest = time.time() - ORPHAN_SECONDS
    paths = [path for path in folder.iterdir() if path.name not in known]
    return [path for path in paths if _is_older(path, oldest)]


def lock(path: Path, flags: int) -> int | None:
    """A descriptor with the lock of a path, until it is closed; None while another one has it.

    `flags` are those of `os.open`, whose errors are raised.
    """
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _is_older(path: Path, seconds: float) -> bool:
    """True for a file of an earlier time, False for one that was moved or removed meanwhile."""
    try:
        return path.stat().st_mtime < seconds
    except FileNotFoundError:
        return False
