"""Files and batches of one service: its folder, its store and its runner."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from service.batches.bucket import Bucket
from service.batches.folder import Folder
from service.batches.journal import Journal
from service.batches.line_call import Call
from service.batches.records import Batch
from service.batches.run import Surroundings
from service.batches.runner import Runner, RunnerObserver
from service.batches.store import BatchStore
from service.batches.tables import VERSIONS
from service.database import Database
from service.settings.batches import BatchSettings
from service.tenants.tenant import Tenant


class Batches:
    """Files and batches below a folder, or files in a bucket; ConfigurationError for one that
    cannot be used.

    `tenant_of` finds a tenant that has a live key. `max_line_bytes` is the limit of a line, as of a
    request's body.
    """

    def __init__(
        self,
        path: Path,
        settings: BatchSettings,
        observer: RunnerObserver,
        tenant_of: Callable[[str], Tenant | None],
        max_line_bytes: int,
    ) -> None:
        self.settings = settings
        bucket = None if settings.files is None else Bucket(settings.files)
        self.folder = Folder(path, bucket)
        self._database = Database(self.folder.database, VERSIONS)
        self.store = BatchStore(self._database, settings)
        self._journal = Journal(self._database)
        self._observer = observer
        self._tenant_of = tenant_of
        self._max_line_bytes = max_line_bytes
        self._runner: Runner | None = None

    @asynccontextmanager
    async def running(self, call: Call, room: Callable[[], int]) -> AsyncIterator[None]:
        """Run the batches while the block runs: `call` answers a line, `room` counts free slots."""
        around = Surroundings(
            folder=self.folder,
            journal=self._journal,
            call=call,
            tenant_of=self._tenant_of,
            room=room,
            observer=self._observer,
            max_lines=self.settings.max_lines,
            max_line_bytes=self._max_line_bytes,
            tenant_bytes=self.settings.tenant_bytes,
        )
        self._runner = Runner(
            around, self._observer, self.settings.max_running, self.settings.keep_days
        )
        task = asyncio.create_task(self._runner.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])
            self._database.close()

    async def latest(self, limit: int) -> list[Batch]:
        """Batches of all tenants, as `Journal.latest`."""
        return await self._journal.latest(limit)

    def wake(self) -> None:
        """Look for a new batch at once, not at the next look in a second."""
        if self._runner is not None:
            self._runner.wake()
