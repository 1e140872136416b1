"""Batches as a plugin: files of requests that are answered in the background."""

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, ClassVar, Self

from service.plugin import Host, OwnBodyReader, Plugin, Runtime
from service.plugins.batches.batches import Batches
from service.plugins.batches.metrics import BatchMetrics
from service.plugins.batches.routes import ROUTERS
from service.plugins.batches.settings import BatchSettings
from service.plugins.batches.store import Batch
from service.plugins.batches.upload import UploadReader

_SHOWN = 10


class BatchesPlugin(Batches, Plugin):
    """Files and batches; enabled if `batches.path` names a folder."""

    routers = ROUTERS
    switch = "batches.path"
    operations: ClassVar = {"/v1/batches": None, "/v1/files": None}

    @classmethod
    def of(cls, host: Host) -> Self | None:
        settings = host.settings.section(BatchSettings)
        if settings.path is None:
            return None
        metrics, http = BatchMetrics(host.registry), host.settings.http
        made = cls(settings.path, settings, metrics, host.tenancy.tenant_named, http.max_body_bytes)
        made._reader = UploadReader(made, http.body_timeout_ms)
        return made

    _reader: UploadReader

    def body_reader(self) -> OwnBodyReader:
        return self._reader

    def lifespan(self, service: Runtime) -> AbstractAsyncContextManager[None]:
        return self.running(service.call, lambda: service.admission.flex_room)

    async def overview(self) -> Mapping[str, Any]:
        return {"batches": [_shown(batch) for batch in await self.latest(_SHOWN)]}


def _shown(batch: Batch) -> dict[str, Any]:
    shown = ("id", "tenant", "endpoint", "status", "total", "completed", "failed", "created_at")
    return {name: getattr(batch, name) for name in shown}
