"""GET /health, /ping and /version."""

from typing import Literal

from fastapi import APIRouter

from service.errors import NotReady
from service.http.bodies import AnswerBody
from service.http.json_routes import TheRuntime
from service.telemetry.lifecycle import package_version

router = APIRouter(tags=["health"])


class Health(AnswerBody):
    """The service is ready."""

    status: Literal["ok"] = "ok"


@router.get("/health")
@router.get("/ping")
async def health(runtime: TheRuntime) -> Health:
    """200 when the service is ready for requests; SageMaker asks at `/ping`."""
    if not runtime.status.ready:
        raise NotReady(f"The server is {runtime.status}.", retry_after=5)
    if runtime.language_model is not None:
        await runtime.language_model.engine.check()
    for encoder in runtime.encoders:
        await encoder.check()
    return Health()


class Version(AnswerBody):
    """The version of the service."""

    version: str


@router.get("/version")
async def show_version() -> Version:
    """The version of the service."""
    return Version(version=package_version())
