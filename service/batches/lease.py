"""Lease of a batch: the right to run it, which one process holds at a time."""

import fcntl
import os
from pathlib import Path


class Lease:
    """A lock on a file, held by this process until it is released or the process ends.

    The kernel releases the lock when the process ends, for any reason, so no timeout is needed.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> "Lease | None":
        """The lease; None while another process holds it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def release(self) -> None:
        """Release the lock, so that another process may run the batch."""
        os.close(self._descriptor)
