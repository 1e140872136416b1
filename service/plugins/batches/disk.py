"""Files on a local disk: moved into place as a whole, locked, and removed as orphans."""

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
"""Age from which a file without a record is an orphan: no upload or batch still uses it."""
_NEW = "upload-"


def new_place(folder: Path) -> Path:
    """A new path for content that is still being written."""
    return folder / f"{_NEW}{secrets.token_hex(16)}"


def is_new(path: Path) -> bool:
    """True while an upload to a path made by `new_place` is unfinished."""
    return path.name.startswith(_NEW)


def put_in_place(upload: Path, path: Path) -> None:
    """Move a complete file to `path`, and sync it to disk."""
    sync(upload)
    upload.replace(path)
    sync(path.parent)


def list_old(folder: Path, known: Collection[str]) -> list[Path]:
    """Files of a folder that are not in `known` and are older than ORPHAN_SECONDS."""
    oldest = time.time() - ORPHAN_SECONDS
    paths = [path for path in folder.iterdir() if path.name not in known]
    return [path for path in paths if _is_older(path, oldest)]


def remove_old(folder: Path, known: Collection[str]) -> None:
    """Remove the files that `list_old` lists."""
    for path in list_old(folder, known):
        path.unlink(missing_ok=True)


def _is_older(path: Path, seconds: float) -> bool:
    """True if a file was last changed before a time; False if it has been moved or removed."""
    try:
        return path.stat().st_mtime < seconds
    except FileNotFoundError:
        return False


def lock(path: Path, flags: int) -> int | None:
    """Lock a path; returns a descriptor that holds the lock until closed, None if it is locked.

    `flags` are passed to `os.open`, whose errors are raised.
    """
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


class Scratch:
    """Temporary files of this process; it also removes those of processes that have ended.

    Each process has a folder below `path` and holds a lock on it, which the kernel releases however
    the process ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._own: Path | None = None

    def new_place(self) -> Path:
        """A new path for content, on the disk of `path`."""
        if self._own is None:
            made = self._path / f".{secrets.token_hex(16)}"
            made.mkdir(mode=0o700)
            lock(made, os.O_RDONLY)
            # Renamed once it is locked: `sweep` removes a folder of such a name without a lock.
            self._own = made.rename(self._path / made.name[1:])
        return new_place(self._own)

    def sweep(self) -> None:
        """Remove the folders of ended processes, and hours-old files of running processes."""
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
