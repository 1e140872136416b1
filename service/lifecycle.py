"""The start of the parts in order (adapters, engine, proof, ready), and their stop in reverse."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI

from service.classification.question_cache import QuestionCache
from service.fleet.fleet import AdapterFleet
from service.fleet.metrics import AdapterMetrics
from service.runtime.drain import Drain
from service.runtime.open_requests import OpenRequests
from service.runtime.parts import Runtime
from service.runtime.running import EngineStart, Running, running
from service.runtime.status import Phase, Reload, Status
from service.runtime.watchdog import Watchdog
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestTelemetry
from service.tenants.tenancy import Tenancy

_log = logging.getLogger(__name__)

_RESIDENCY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """The parts of one service before it runs; `lifespan` makes it run."""

    settings: Settings
    status: Status
    tenancy: Tenancy
    requests: OpenRequests
    metrics: Metrics
    adapter_metrics: AdapterMetrics
    telemetry: RequestTelemetry
    start_engine: EngineStart
    read_settings: Callable[[], Settings]

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Run the engine and its adapters, and be ready; the phase of a start that fails stays."""
        status = self.status
        try:
            async with AsyncExitStack() as stack:
                starting = running(
                    self.settings, self.start_engine, self.metrics, self.adapter_metrics
                )
                with status.remembered():
                    parts = await stack.enter_async_context(starting)
                try:
                    async with self._ready(app, parts):
                        yield
                finally:
                    status.phase = Phase.STOPPING
        finally:
            await asyncio.to_thread(self.telemetry.close)

    @asynccontextmanager
    async def _ready(self, app: FastAPI, parts: Running) -> AsyncIterator[None]:
        settings, status, engine, gate = self.settings, self.status, parts.engine, parts.gate
        app.state.runtime = Runtime(
            settings=settings,
            status=status,
            metrics=self.metrics,
            engine=engine,
            adapters=parts.fleet.registry,
            questions=QuestionCache(engine),
        )
        drain = Drain(status, self.requests, gate, settings.drain, self.metrics.lifecycle)
        async with (
            self.tenancy.followed(),
            _adapters_followed(parts.fleet, status, self.read_settings),
            _watching(Watchdog(engine, gate, status, settings.watchdog).run()),
            _watching(self.metrics.loop_lag.run()),
            _drainable(drain, status),
        ):
            self.metrics.follow(engine, engine.model, lambda: status.stalled)
            status.phase = Phase.READY
            _log.info("ready: %s, digest %s", engine.model.name, engine.model.digest)
            yield


@asynccontextmanager
async def _adapters_followed(
    fleet: AdapterFleet, status: Status, read_settings: Callable[[], Settings]
) -> AsyncIterator[None]:
    """Take reloads and follow which adapters are resident, while the service is ready."""
    status.reload = Reload(asyncio.get_running_loop(), partial(fleet.reload, read_settings))
    watch = asyncio.create_task(fleet.watch_residency(_RESIDENCY_SECONDS))
    try:
        yield
    finally:
        status.reload = None
        watch.cancel()
        await asyncio.wait([watch])


@asynccontextmanager
async def _watching(watch: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a watch of the engine or the loop while the service is ready."""
    task = asyncio.create_task(watch)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@asynccontextmanager
async def _drainable(drain: Drain, status: Status) -> AsyncIterator[None]:
    """Let signals and the operations port begin the drain while the service is ready."""
    loop = asyncio.get_running_loop()

    def start(lame_duck: bool) -> None:
        loop.call_soon_threadsafe(partial(drain.start, lame_duck=lame_duck))

    status.drain = start
    try:
        yield
    finally:
        status.drain = None
