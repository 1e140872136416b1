"""GET /console on the operations port: the live view and its data."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry
from pydantic_core import to_json

from service.api.routes.console import answer, part
from service.console.assets import LIVE_PAGE
from service.runtime.status import Status
from service.settings.telemetry import SloSettings
from service.telemetry.history import INTERVAL_S, History


def live_console(status: Status, registry: CollectorRegistry, slo: SloSettings) -> APIRouter:
    """The routes of the live view; while the app runs, its history grows."""
    view = _View(History(registry), status, slo)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        task = asyncio.create_task(view.follow())
        yield
        task.cancel()

    router = APIRouter(lifespan=lifespan)

    @router.get("/console")
    async def page(request: Request) -> Response:
        """The page of the live view."""
        return answer(request, LIVE_PAGE)

    @router.get("/console/live")
    async def live() -> Response:
        """The last ten minutes, as JSON."""
        headers = {"cache-control": "no-store"}
        return Response(view.body(), media_type="application/json", headers=headers)

    router.get("/console/{name}")(part)
    return router


class _View:
    """The history as JSON, made at most once an interval however many look."""

    def __init__(self, history: History, status: Status, slo: SloSettings) -> None:
        self._history = history
        self._status = status
        self._slo = slo
        self._body: bytes | None = None

    async def follow(self) -> None:
        """Add to the history, for ever."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            self._history.take()
            self._body = None

    def body(self) -> bytes:
        if self._body is None:
            about = {
                "status": str(self._status),
                "interval_s": INTERVAL_S,
                "objectives": {"ttft_ms": self._slo.ttft_ms, "tpot_ms": self._slo.tpot_ms},
            }
            self._body = to_json(about | self._history.shown())
        return self._body
