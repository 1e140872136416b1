"""The console as a plugin: a page to try the service, and a live view on the admin port."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Self

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response, StreamingResponse

from service.common.aio import beside
from service.common.error_messages import quote_name
from service.errors import NotFound
from service.http.asset import Asset
from service.http.exchange import MEDIA_TYPE
from service.plugin import Host, Plugin, Runtime
from service.plugins.console.assets import FOLDER, HEADERS, LIVE_PAGE, PAGE, PARTS
from service.plugins.console.history import History
from service.plugins.console.live_feed import LiveFeed

_ASSETS = {name: Asset.read(FOLDER / name, HEADERS) for name in (PAGE, LIVE_PAGE, *PARTS)}

router = APIRouter(include_in_schema=False)


class ConsolePlugin(Plugin):
    """Pages for a browser; enabled unless `http.console` is false."""

    routers = (router,)
    switch = "http.console"
    open_paths = frozenset({"/console", *(f"/console/{name}" for name in PARTS)})

    @classmethod
    def of(cls, host: Host) -> Self | None:
        return cls(host) if host.settings.http.console else None

    def __init__(self, host: Host) -> None:
        self._feed = LiveFeed(History(host.registry), host.status, host.settings.slo)

    @asynccontextmanager
    async def lifespan(self, service: Runtime) -> AsyncIterator[None]:
        self._feed.overview = service.plugins.overview
        yield

    def add_admin_routes(self, app: FastAPI, may_control: Sequence[Any]) -> None:
        app.state.end_streams = self._feed.end
        app.include_router(live_console(self._feed))


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


def live_console(feed: LiveFeed) -> APIRouter:
    """The routes of the live view; while the app runs, the feed's history grows."""

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        async with beside(feed.follow()):
            yield

    router = APIRouter(lifespan=lifespan)

    router.get("/console")(live_page)

    @router.get("/console/live")
    async def live() -> Response:
        """The last ten minutes and what is under way, as a server-sent event each interval."""
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(feed.events(), headers=headers, media_type=MEDIA_TYPE)

    router.get("/console/{name}")(part)
    return router
