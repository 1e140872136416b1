"""Batches of all tenants, for an operator's command line, also while a service runs."""

from pathlib import Path

from service.batches.folder import Folder
from service.batches.records import Batch
from service.batches.store import BatchStore
from service.batches.tables import VERSIONS, batches_where
from service.database import Database
from service.errors import ConfigurationError
from service.settings.batches import BatchSettings


class Overview:
    """Reads and cancels batches below a folder; ConfigurationError for a folder without any."""

    def __init__(self, path: Path) -> None:
        if not (path / Folder.DATABASE).exists():
            raise ConfigurationError(f"{path}: no folder of batches: it has no {Folder.DATABASE}")
        self._database = Database(path / Folder.DATABASE, VERSIONS)
        self._store = BatchStore(self._database, BatchSettings())

    async def listed(self, limit: int) -> list[Batch]:
        """At most `limit` batches, the newest first."""
        query = "TRUE ORDER BY seq DESC LIMIT ?"
        return await self._database.run(lambda c: batches_where(c, query, limit))

    async def batch(self, batch_id: str) -> Batch:
        """A batch of any tenant; ConfigurationError if there is no batch of this id."""
        found = await self._database.run(lambda c: batches_where(c, "id = ?", batch_id))
        if not found:
            raise ConfigurationError(f"there is no batch {batch_id[:64]!r}")
        return found[0]

    async def cancel(self, batch_id: str) -> Batch:
        """Ask a batch to end; a running service does so within a second."""
        batch = await self.batch(batch_id)
        return await self._store.cancel(batch.tenant, batch.id)

    def close(self) -> None:
        """Close the database."""
        self._database.close()
