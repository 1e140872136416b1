"""The composition root: puts the parts of the service together and starts them in order."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi_offline import FastAPIOffline
from prometheus_client import CollectorRegistry

from service.adapters.registry import AdapterRegistry
from service.api.errors import ERROR_RESPONSES, register_error_handlers
from service.api.middleware import RequestScope
from service.api.routes import adapters, classify, generate, health, tokenize
from service.confidence import TOP_LOGPROBS
from service.context import enter_context, internal_context
from service.engine.protocol import Engine, Sampling, Structure
from service.gate.gate import Gate
from service.runtime import Phase, Runtime, Status
from service.settings import Settings
from service.telemetry.metrics import Metrics

_log = logging.getLogger(__name__)

_WARM_UP_SECONDS = 120.0

EngineStart = Callable[[Settings, Gate, Metrics], Awaitable[Engine]]
"""Starts an engine behind a gate; sets the gate's capacity to what the engine can run."""


def create_app(
    settings: Settings,
    status: Status,
    registry: CollectorRegistry,
    start_engine: EngineStart | None = None,
) -> FastAPI:
    """The public app. Its lifespan starts the engine, loads the adapters, warms up, is ready.

    Without `start_engine` the engine is vLLM, and OpenAI's routes are served too.
    """
    metrics = Metrics(registry)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        gate = Gate(settings.gate.max_in_flight or 1, settings.gate.max_queued, metrics)
        with status.remembered():
            engine = await (start_engine or _start_vllm(app))(settings, gate, metrics)
        try:
            with status.remembered():
                registry = AdapterRegistry(settings.model.name)
                await registry.load(engine, settings.adapters)
                if openai := getattr(app.state, "openai", None):
                    for adapter in registry.all():
                        openai.add_adapter(adapter)
                await _warm_up(engine)
            app.state.runtime = Runtime(settings, metrics, gate, engine, registry)
            status.phase = Phase.READY
            _log.info("ready: %s, digest %s", engine.model.name, engine.model.digest)
            yield
        finally:
            status.phase = Phase.STOPPING
            await engine.stop()

    app: FastAPI = FastAPIOffline(
        title="llm-service", lifespan=lifespan, redoc_url=None, redirect_slashes=False
    )
    app.add_middleware(RequestScope, http=settings.http, gate=settings.gate, metrics=metrics)
    register_error_handlers(app)
    for module in (generate, classify, tokenize, adapters, health):
        app.include_router(module.router, responses=ERROR_RESPONSES)
    if start_engine is None:
        from service.api.routes import openai as openai_routes

        app.include_router(openai_routes.router, responses=ERROR_RESPONSES)
    return app


def _start_vllm(app: FastAPI) -> EngineStart:
    async def start(settings: Settings, gate: Gate, metrics: Metrics) -> Engine:
        from service.engine.start import start_vllm

        engine, app.state.openai = await start_vllm(settings, gate, metrics)
        return engine

    return start


async def _warm_up(engine: Engine) -> None:
    """Take each path through the engine once, so that no user pays for what is loaded lazily."""
    enter_context(internal_context("warm-up", _WARM_UP_SECONDS))
    prompt = await engine.render("Hello")
    structure = Structure(choice=["yes", "no"])
    for sampling in (Sampling(2, logprobs=TOP_LOGPROBS), Sampling(2, structure=structure)):
        async for _ in engine.generate(prompt, sampling, None):
            pass
    await engine.label_logprobs(prompt, [0, 1], None)
