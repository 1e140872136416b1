"""GET /v1/adapters."""

from typing import Literal

from fastapi import APIRouter

from service.api.dependencies import TheRuntime
from service.api.schemas.base import AnswerBody

router = APIRouter(tags=["models"])


class AdapterBody(AnswerBody):
    """One adapter that requests may name as their model."""

    name: str
    state: Literal["loaded"]


class AdapterList(AnswerBody):
    """The adapters served here."""

    object: Literal["list"] = "list"
    data: list[AdapterBody]


@router.get("/v1/adapters")
async def adapters(runtime: TheRuntime) -> AdapterList:
    """The adapters that are loaded."""
    loaded = runtime.adapters.all()
    return AdapterList(data=[AdapterBody(name=a.name, state="loaded") for a in loaded])
