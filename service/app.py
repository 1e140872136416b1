"""The composition root: puts the parts of the service together and starts them in order."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from service.adapters.fleet import AdapterFleet
from service.api.errors import ERROR_RESPONSES, register_error_handlers
from service.api.middleware import RequestScope
from service.api.routes import adapters, classify, generate, health, tokenize
from service.classification.question_cache import QuestionCache
from service.confidence import TOP_LOGPROBS
from service.context import internal_request
from service.drain import Drain
from service.engine.protocol import Engine, Sampling, Structure
from service.gate.gate import Gate
from service.open_requests import OpenRequests
from service.runtime import Phase, Reload, Runtime, Status
from service.settings import Settings
from service.telemetry.adapters import AdapterMetrics
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestTelemetry
from service.watchdog import Watchdog

_log = logging.getLogger(__name__)

_WARM_UP_SECONDS = 120.0
_RESIDENCY_SECONDS = 10.0

EngineStart = Callable[[Settings, Gate, Metrics], Awaitable[Engine]]
"""Starts an engine behind a gate; sets the gate's capacity to what the engine can run."""


def create_app(
    settings: Settings,
    status: Status,
    registry: CollectorRegistry,
    start_engine: EngineStart | None = None,
    read_settings: Callable[[], Settings] | None = None,
) -> FastAPI:
    """The public app. Its lifespan starts the engine, warms it up, proves the adapters, is ready.

    Without `start_engine` the engine is vLLM, and OpenAI's routes are served too.
    `read_settings` reads the configuration again when the adapters are reloaded.
    """
    metrics = Metrics(registry, settings.metrics, settings.slo)
    telemetry = RequestTelemetry.of(settings, metrics)
    requests = OpenRequests()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        gate = Gate(settings.gate, metrics)
        with status.remembered():
            engine = await (start_engine or _start_vllm(app))(settings, gate, metrics)
        try:
            with status.remembered():
                await _warm_up(engine)
                fleet = AdapterFleet(engine, settings.model.name, AdapterMetrics(registry))
                await fleet.apply(settings)
            app.state.runtime = Runtime(
                settings, status, metrics, gate, engine, fleet.registry, QuestionCache(engine)
            )
            drain = Drain(status, requests, gate, settings.drain, metrics.lifecycle)
            async with (
                _adapters_followed(fleet, status, read_settings or (lambda: settings)),
                _watched(Watchdog(engine, gate, status, settings.watchdog)),
                _drainable(drain, status),
            ):
                metrics.follow(engine, lambda: status.stalled)
                status.phase = Phase.READY
                _log.info("ready: %s, digest %s", engine.model.name, engine.model.digest)
                yield
        finally:
            status.phase = Phase.STOPPING
            await engine.stop()
            await asyncio.to_thread(telemetry.close)

    app = _public_app(settings, telemetry, requests, lifespan)
    if start_engine is None:
        from service.api.routes import openai as openai_routes

        app.include_router(openai_routes.router, responses=ERROR_RESPONSES)
    return app


def _public_app(
    settings: Settings,
    telemetry: RequestTelemetry,
    requests: OpenRequests,
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]],
) -> FastAPI:
    app: FastAPI = FastAPIOffline(
        title="llm-service", lifespan=lifespan, redoc_url=None, redirect_slashes=False
    )
    app.add_middleware(
        RequestScope, http=settings.http, gate=settings.gate, telemetry=telemetry, requests=requests
    )
    register_error_handlers(app)
    for module in (generate, classify, tokenize, adapters, health):
        app.include_router(module.router, responses=ERROR_RESPONSES)
    return app


def _start_vllm(app: FastAPI) -> EngineStart:
    async def start(settings: Settings, gate: Gate, metrics: Metrics) -> Engine:
        from service.engine.start import start_vllm

        engine, app.state.openai = await start_vllm(settings, gate, metrics)
        return engine

    return start


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
async def _watched(watchdog: Watchdog) -> AsyncIterator[None]:
    """Watch the engine while the service is ready."""
    watch = asyncio.create_task(watchdog.run())
    try:
        yield
    finally:
        watch.cancel()
        await asyncio.wait([watch])


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


async def _warm_up(engine: Engine) -> None:
    """Take each path through the engine once, so that no user pays for what is loaded lazily."""
    async with internal_request("warm-up", _WARM_UP_SECONDS):
        prompt = await engine.render("Hello")
        structure = Structure(choice=["yes", "no"])
        for sampling in (Sampling(2, logprobs=TOP_LOGPROBS), Sampling(2, structure=structure)):
            async for _ in engine.generate(prompt, sampling, None):
                pass
        await engine.label_logprobs(prompt, [0, 1], None)
