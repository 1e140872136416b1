"""Files and batches of one service: what it keeps of them, and its runner."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

from fastapi import Depends

from service.common.aio import beside
from service.http.json_routes import TheRuntime
from service.plugins.batches.few_at_once import FewAtOnce
from service.plugins.batches.kept import kept
from service.plugins.batches.records import Batch
from service.plugins.batches.run import Surroundings
from service.plugins.batches.runner import Runner, RunnerObserver
from service.plugins.batches.settings import BatchSettings
from service.runtime.parts import Call
from service.tenants.tenant import Tenant

_DOWNLOADS = 16


class Batches:
    """Files and batches at the places that the settings name; ConfigurationError for one that
    cannot be used.

    `tenant_of` finds a tenant that has a live key. `max_line_bytes` is the limit of a line, as of a
    request's body. `downloads` bounds contents that are being sent: a part of each is in memory.
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
        self.downloads = FewAtOnce(_DOWNLOADS, "downloads")
        found = kept(path, settings)
        self.store, self.folder = found.store, found.folder
        self._register = found.register
        self._observer = observer
        self._tenant_of = tenant_of
        self._max_line_bytes = max_line_bytes
        self._runner: Runner | None = None

    @asynccontextmanager
    async def running(self, call: Call, room: Callable[[], int]) -> AsyncIterator[None]:
        """Run the batches while the block runs: `call` answers a line, `room` counts free slots."""
        around = Surroundings(
            folder=self.folder,
            call=call,
            tenant_of=self._tenant_of,
            room=room,
            observer=self._observer,
            max_lines=self.settings.max_lines,
            max_line_bytes=self._max_line_bytes,
            tenant_bytes=self.settings.tenant_bytes,
        )
        most, days = self.settings.max_running, self.settings.keep_days
        self._runner = Runner(self._register, around, self._observer, most, days)
        try:
            async with beside(self._runner.run()):
                yield
        finally:
            await self._register.close()

    @property
    def now(self) -> int:
        """Seconds since 1970."""
        return int(time.time())

    async def latest(self, limit: int) -> list[Batch]:
        """Batches of all tenants, as `Register.latest`."""
        return await self._register.latest(limit)

    def wake(self) -> None:
        """Look for a new batch at once, not at the next look in a second."""
        if self._runner is not None:
            self._runner.wake()


async def _batches(runtime: TheRuntime) -> Batches:
    return runtime.plugins.get(Batches)


TheBatches = Annotated[Batches, Depends(_batches)]
