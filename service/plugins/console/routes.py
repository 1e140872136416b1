"""GET /console: the page on which a person tries the service, and its parts."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.common.error_messages import quote_name
from service.errors import NotFound
from service.http.asset import Asset
from service.plugins.console.assets import FOLDER, HEADERS, LIVE_PAGE, PAGE, PARTS

_ASSETS = {name: Asset.read(FOLDER / name, HEADERS) for name in (PAGE, LIVE_PAGE, *PARTS)}

router = APIRouter(include_in_schema=False)


@router.get("/console")
async def page(request: Request) -> Response:
    """The console."""
    return await _ASSETS[PAGE].answer(request)


async def live_page(request: Request) -> Response:
    """The page of the live view."""
    return await _ASSETS[LIVE_PAGE].answer(request)


@router.get("/console/{name}")
async def part(request: Request, name: str) -> Response:
    """A style or a script of the console."""
    if name not in PARTS:
        raise NotFound(f"There is nothing at '/console/{quote_name(name)}'")
    return await _ASSETS[name].answer(request)
