"""Shared locks on cache entries, so that no entry is removed while a service may read it."""

import fcntl
import os
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


class Holds:
    """The entries that this process may read, each by a lock on a file of its own.

    A lock lasts until `keep` omits it, or the process and its forks have ended. The file's time is
    when an entry was last taken or given up.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, int] = {}
        self._guard = threading.Lock()

    def take(self, digest: str) -> None:
        """Hold an entry from now on, even before it exists; waits while another process removes it.

        Does nothing if no lock file can be made: no process prunes such a cache.
        """
        with self._guard, suppress(OSError):
            if digest not in self._held:
                self._folder.mkdir(parents=True, exist_ok=True)
                descriptor = os.open(self._file(digest), os.O_RDONLY | os.O_CREAT, 0o644)
                fcntl.flock(descriptor, fcntl.LOCK_SH)
                self._held[digest] = descriptor
            os.utime(self._held[digest])

    def keep(self, digests: Collection[str]) -> None:
        """Give up all others."""
        with self._guard:
            for digest in self._held.keys() - set(digests):
                descriptor = self._held.pop(digest)
                with suppress(OSError):
                    os.utime(descriptor)
                fcntl.flock(descriptor, fcntl.LOCK_UN)
                os.close(descriptor)

    @contextmanager
    def unheld(self, digest: str, seconds: float) -> Iterator[bool]:
        """Yield True if no process has held an entry for so long; none can take it meanwhile.

        Raises OSError where this process may not write the lock file.
        """
        descriptor = os.open(self._file(digest), os.O_RDWR | os.O_CREAT, 0o644)
        try:
            age = time.time() - os.fstat(descriptor).st_mtime
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield age >= seconds
        finally:
            os.close(descriptor)

    def _file(self, digest: str) -> Path:
        return self._folder / digest.removeprefix("sha256:")
