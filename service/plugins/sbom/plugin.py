"""Bills of materials as a plugin: of an adapter, and of the whole service on the admin port."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, FastAPI
from fastapi.responses import JSONResponse

from service.errors import NotReady
from service.http.json_routes import TheContext, TheRuntime
from service.plugin import Host, Plugin, Runtime
from service.plugins.sbom.bill import (
    MEDIA_TYPE,
    Component,
    adapter_component,
    base_component,
    bill_of,
    service_bill,
)
from service.telemetry.lifecycle import package_version

router = APIRouter(tags=["models"])


class BillResponse(JSONResponse):
    """A bill of materials as JSON, under CycloneDX's media type."""

    media_type = MEDIA_TYPE


class SbomPlugin(Plugin):
    """Bills of materials of what is served, in the format of CycloneDX."""

    routers = (router,)

    @classmethod
    def of(cls, host: Host) -> "SbomPlugin":
        return cls()

    def __init__(self) -> None:
        self._service: Runtime | None = None

    @asynccontextmanager
    async def lifespan(self, service: Runtime) -> AsyncIterator[None]:
        self._service = service
        yield

    def add_admin_routes(self, app: FastAPI, may_control: Sequence[Any]) -> None:
        @app.get("/bom")
        def bom() -> BillResponse:
            """The CycloneDX bill of materials of the service: models and Python packages."""
            if self._service is None:
                raise NotReady("The service is starting.", retry_after=5)
            return BillResponse(service_bill(package_version(), models_served(self._service)))


@router.get("/v1/adapters/{name}/bom", response_class=BillResponse)
async def bill(name: str, runtime: TheRuntime, context: TheContext) -> BillResponse:
    """The CycloneDX bill of materials of an adapter: its files, data, licences, quality, base."""
    served = runtime.models.adapter(name, context.tenant)
    return BillResponse(bill_of(adapter_component(served.adapter.name, served.manifest)))


def models_served(service: Runtime) -> list[Component]:
    """The base model, the encoders and every served version of an adapter, in this order."""
    found = []
    model = service.language_model
    if model is not None:
        found.append(base_component(model.engine.model.name, model.engine.model.digest))
    found += [base_component(each.info.name, each.info.digest) for each in service.encoders]
    if model is not None:
        versions = sorted(model.registry.versions, key=lambda each: each.names)
        found += [adapter_component(each.adapter.name, each.manifest) for each in versions]
    return found
