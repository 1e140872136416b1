"""Lease of a batch for the processes of one machine."""

import os
from pathlib import Path

from service.plugins.batches.disk import lock
from service.plugins.batches.store import Journal


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
        descriptor = lock(path, os.O_RDWR | os.O_CREAT)
        return None if descriptor is None else cls(descriptor, journal)

    async def release(self) -> None:
        os.close(self._descriptor)
