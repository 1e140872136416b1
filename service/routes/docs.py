"""GET /docs and /openapi.json: the API described, without the internet."""

from pathlib import Path

import fastapi_offline
from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.docs import get_swagger_ui_html
from fastapi.responses import Response
from pydantic_core import to_json

from service.common.error_messages import quote_name
from service.errors import NotFound
from service.http.asset import Asset

_FILES = "/static-offline-docs"
_VIEWER, _STYLE, _ICON = "swagger-ui-bundle.js", "swagger-ui.css", "favicon.png"
_ASSETS = {
    name: Asset.read(Path(fastapi_offline.__file__).parent / "static" / name)
    for name in (_VIEWER, _STYLE, _ICON)
}


def docs(app: FastAPI) -> APIRouter:
    """The routes, with the description that the app has now."""
    router = APIRouter(include_in_schema=False)
    document = Asset(to_json(app.openapi()), "application/json")
    viewer = get_swagger_ui_html(
        openapi_url="/openapi.json",
        title=f"{app.title} - Swagger UI",
        swagger_js_url=f"{_FILES}/{_VIEWER}",
        swagger_css_url=f"{_FILES}/{_STYLE}",
        swagger_favicon_url=f"{_FILES}/{_ICON}",
    )
    page = Asset(bytes(viewer.body), "text/html; charset=utf-8")

    @router.get("/openapi.json")
    async def openapi(request: Request) -> Response:
        """The description."""
        return await document.answer(request)

    @router.get("/docs")
    async def swagger(request: Request) -> Response:
        """The page that shows it."""
        return await page.answer(request)

    @router.get(_FILES + "/{name}")
    async def file(request: Request, name: str) -> Response:
        """A file of the page."""
        if name not in _ASSETS:
            raise NotFound(f"There is nothing at '{_FILES}/{quote_name(name)}'")
        return await _ASSETS[name].answer(request)

    return router
