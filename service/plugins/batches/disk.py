"""Files on a disk of this machine: put in their places whole, locked, and found once nobody needs
them.
"""

import fcntl
import os
import secrets
import shutil
import time
from collections.abc import Collection
from contextlib import suppress
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


def put_in_place(upload: Path, path: Path) -> None:
    """Move a complete file to its place, on disk."""
    sync(upload)
    upload.replace(path)
    sync(path.parent)


def list_old(folder: Path, known: Collection[str]) -> list[Path]:
    """Files of a folder that are none of these names, and hours old."""
    oldest = time.time() - ORPHAN_SECONDS
    paths = [path for path in folder.iterdir() if path.name not in known]
    return [path for path in paths if _is_older(path, oldest)]


def remove_old(folder: Path, known: Collection[str]) -> None:
    """Remove what `list_old` lists."""
    for path in list_old(folder, known):
        path.unlink(missing_ok=True)


def _is_older(path: Path, seconds: float) -> bool:
    """True for a file of an earlier time, False for one that was moved or removed meanwhile."""
    try:
        return path.stat().st_mtime < seconds
    except FileNotFoundError:
        return False


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


class Scratch:
    """New places for this process's content; removes what ended processes left.

    A process holds a lock on a folder of its own below `path`. The kernel releases the lock when
    the process ends, for any reason.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own: Path | None = None

    def new_place(self) -> Path:
        """A new place for content; its parent is on the disk of `path`."""
        if self._own is None:
            made = self._path / f".{secrets.token_hex(16)}"
            made.mkdir(mode=0o700)
            lock(made, os.O_RDONLY)
            # Only now: what has this name and no lock may be removed.
            self._own = made.rename(self._path / made.name[1:])
        return new_place(self._own)

    def sweep(self) -> None:
        """Remove the folders of ended processes, and what is hours old in those of others."""
        for folder in self._path.glob("[!.]*"):
            with suppress(FileNotFoundError):  # another process sweeps as well
                self._sweep(folder)

    @staticmethod
    def _sweep(folder: Path) -> None:
        if (descriptor := lock(folder, os.O_RDONLY)) is None:
            remove_old(folder, ())
            return
        try:
            shutil.rmtree(folder)
        finally:
            os.close(descriptor)
