"""Files and batches of one service: their store and their runner."""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends

from service.common.aio import beside
from service.errors import TooManyRequests
from service.http.json_routes import TheRuntime
from service.plugins.batches.folder import Bucket, Folder
from service.plugins.batches.local_store import LocalStore
from service.plugins.batches.metrics import BatchMetrics
from service.plugins.batches.run import RunContext
from service.plugins.batches.runner import Runner
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.shared_store import SharedStore
from service.plugins.batches.store import Batch, Store
from service.runtime.parts import Call
from service.tenants.tenant import Tenant

DOWNLOADS = 16


class TenantLimit:
    """Limits how many things of one kind a tenant has at once, such as downloads."""

    def __init__(self, most: int, kind: str) -> None:
        self._most = most
        self._kind = kind
        self._running: Counter[str] = Counter()

    @contextmanager
    def count(self, tenant: str) -> Iterator[None]:
        """Count one more while the block runs; raises TooManyRequests beyond the limit."""
        if self._running[tenant] >= self._most:
            raise TooManyRequests(
                f"file: at most {self._most} {self._kind} of a tenant at once. Send fewer.",
                code=f"too_many_{self._kind}",
                retry_after=1,
            )
        self._running[tenant] += 1
        try:
            yield
        finally:
            self._running[tenant] -= 1
            if not self._running[tenant]:
                del self._running[tenant]


class Batches:
    """The files and batches of one service, stored where its settings say.

    `tenant_of` finds a tenant by name, if it has a live key. `max_line_bytes` limits a line of an
    input file. `downloads` limits concurrent downloads, because each holds a part of its file in
    memory. Raises ConfigurationError for a folder, bucket or store that cannot be used.
    """

    def __init__(
        self,
        path: Path,
        settings: BatchSettings,
        metrics: BatchMetrics,
        tenant_of: Callable[[str], Tenant | None],
        max_line_bytes: int,
    ) -> None:
        self.settings = settings
        self.downloads = TenantLimit(DOWNLOADS, "downloads")
        bucket = None if settings.files is None else Bucket(settings.files)
        self.store = _open_store(path, settings)
        self.folder = Folder(path, self.store, bucket)
        self._metrics = metrics
        self._tenant_of = tenant_of
        self._max_line_bytes = max_line_bytes
        self._runner: Runner | None = None

    @asynccontextmanager
    async def running(self, call: Call, free_slots: Callable[[], int]) -> AsyncIterator[None]:
        """Run batches while the block runs; `call` and `free_slots` are those of `RunContext`."""
        context = RunContext(
            settings=self.settings,
            store=self.store,
            folder=self.folder,
            metrics=self._metrics,
            call=call,
            tenant_of=self._tenant_of,
            free_slots=free_slots,
            max_line_bytes=self._max_line_bytes,
        )
        self._runner = Runner(context)
        try:
            async with beside(self._runner.run()):
                yield
        finally:
            await self.store.close()

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return int(time.time())

    async def latest(self, limit: int) -> list[Batch]:
        """Batches of all tenants, at most `limit` of each kind: those that have not ended, the
        oldest first, then those that ended, the newest first.
        """
        return [*(await self.store.unfinished())[:limit], *await self.store.ended(limit)]

    def wake(self) -> None:
        """Look for new batches at once instead of at the next poll, up to a second later."""
        if self._runner is not None:
            self._runner.wake()


def _open_store(path: Path, settings: BatchSettings) -> Store:
    """The store that replicas share if `batches.storage` is set, else the one in the folder."""
    if settings.storage is not None:
        return SharedStore(settings.storage, settings)
    return LocalStore(path, settings)


async def _batches(runtime: TheRuntime) -> Batches:
    return runtime.plugins.get(Batches)


TheBatches = Annotated[Batches, Depends(_batches)]
