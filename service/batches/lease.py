"""The right to run a batch, which one process at a time has."""

import fcntl
import os
from pathlib import Path


class Lease:
    """A lock on a file, held by this process until it is released or the process ends.

    The kernel gives it back however the process ends, so no clock decides whether a holder lives.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def take(cls, path: Path) -> "Lease | None":
        """The lease; None while another holds it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return cls(descriptor)

    def release(self) -> None:
        """Let others have it."""
        os.close(self._descriptor)
