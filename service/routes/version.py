"""GET /version."""

from fastapi import APIRouter

from service.http.bodies import AnswerBody
from service.telemetry.lifecycle import package_version

router = APIRouter(tags=["health"])


class Version(AnswerBody):
    """The version of the service."""

    version: str


@router.get("/version")
async def show_version() -> Version:
    """The version of the service."""
    return Version(version=package_version())
