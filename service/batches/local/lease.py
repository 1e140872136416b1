"""Lease of a batch for the processes of one machine."""

import fcntl
import os
from pathlib import Path

from service.batches.store import Journal


class LocalLease:
    """A lock on a file, held by this process until it is released or the process ends; implements
    `batches.store.Lease`.

    The kernel releases the lock when the process ends, for any reason, so no timeout is needed.
    """

    def __init__(self, descriptor: int, journal: Journal) -> None:
        self._descriptor = descriptor
        self.journal = journal

    @classmethod
    def take(cls, path: Path, journal: Journal) -> "LocalLease | None":
        """The lease; None while another process holds it."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        return cls(descriptor, journal)

    async def release(self) -> None:
        os.close(self._descriptor)
