"""GET /console on the operations port: the live view and its data."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response, StreamingResponse

from service.common.aio import beside
from service.http.streams import MEDIA_TYPE
from service.plugins.console.live_feed import LiveFeed
from service.plugins.console.routes import live_page, part


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
