"""Content that is still being written, in a folder for each process that writes."""

import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from service.plugins.batches.disk import lock, new_place, orphans


class Scratch:
    """New places for this process's content; removes what ended processes left.

    A process holds a lock on its folder. The kernel releases the lock when the process ends, for
    any reason.
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
                _sweep(folder)


def _sweep(folder: Path) -> None:
    if (descriptor := lock(folder, os.O_RDONLY)) is None:
        for path in orphans(folder, ()):
            path.unlink(missing_ok=True)
        return
    try:
        shutil.rmtree(folder)
    finally:
        os.close(descriptor)
