"""Batches of all tenants, for an operator's command line, also while a service runs."""

from pathlib import Path

from service.errors import ConfigurationError
from service.plugins.batches.folder import Folder
from service.plugins.batches.kept import kept, shared
from service.plugins.batches.records import Batch
from service.plugins.batches.settings import BatchSettings


class Overview:
    """Reads and cancels batches below a folder, or at an address; ConfigurationError for a folder
    without any.
    """

    def __init__(self, place: str) -> None:
        if "://" in place:
            self._store, self._register, _ = shared(place, BatchSettings())
            return
        path = Path(place)
        if not (path / Folder.DATABASE).exists():
            raise ConfigurationError(f"{path}: no folder of batches: it has no {Folder.DATABASE}")
        found = kept(path, BatchSettings())
        self._store, self._register = found.store, found.register

    async def listed(self, limit: int) -> list[Batch]:
        """At most `limit` batches, the newest first."""
        return await self._register.newest(limit)

    async def batch(self, batch_id: str) -> Batch:
        """A batch of any tenant; ConfigurationError if there is no batch of this id."""
        if (found := await self._register.find(batch_id)) is None:
            raise ConfigurationError(
                f"there is no batch {batch_id[:64]!r}; `llm-service batches list` shows the latest"
            )
        return found

    async def cancel(self, batch_id: str) -> Batch:
        """Ask a batch to end; a running service does so within a second."""
        batch = await self.batch(batch_id)
        return await self._store.cancel(batch.tenant, batch.id)

    async def close(self) -> None:
        """Close the file or the connections."""
        await self._register.close()
