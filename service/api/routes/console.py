"""GET /console: the page on which a person tries the service, and its parts."""

from fastapi import APIRouter, Request
from fastapi.responses import Response

from service.console.assets import HEADERS, PAGE, PARTS, Asset
from service.errors import NotFound
from service.quoting import quote_name

router = APIRouter(include_in_schema=False)


@router.get("/console")
async def page(request: Request) -> Response:
    """The console."""
    return answer(request, PAGE)


@router.get("/console/{name}")
async def part(request: Request, name: str) -> Response:
    """A style or a script of the console."""
    if name not in PARTS:
        raise NotFound(f"There is nothing at '/console/{quote_name(name)}'")
    return answer(request, PARTS[name])


def answer(request: Request, asset: Asset) -> Response:
    """The file, or 304 where the browser has it."""
    headers = {**HEADERS, "etag": asset.etag}
    if request.headers.get("if-none-match") == asset.etag:
        return Response(status_code=304, headers=headers)
    return Response(asset.body, media_type=asset.media_type, headers=headers)
