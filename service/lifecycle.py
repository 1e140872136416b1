"""The start of the parts in order (adapters, engine, proof, ready), and their stop in reverse."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastapi import FastAPI

from service.adapters.fetch import fetch_before_start
from service.classification.question_cache import QuestionCache
from service.context import internal_request
from service.engine.protocol import Engine, Sampling, Structure
from service.fleet.fleet import AdapterFleet
from service.gate.gate import Gate
from service.generation.confidence import TOP_LOGPROBS
from service.runtime.drain import Drain
from service.runtime.open_requests import OpenRequests
from service.runtime.parts import Runtime
from service.runtime.status import Phase, Reload, Status
from service.runtime.watchdog import Watchdog
from service.settings.tree import Settings
from service.telemetry.adapters import AdapterMetrics
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestTelemetry
from service.tenants.tenancy import Tenancy

_log = logging.getLogger(__name__)

_WARM_UP_SECONDS = 120.0
_RESIDENCY_SECONDS = 10.0

EngineStart = Callable[[Settings, Gate, Metrics], Awaitable[Engine]]
"""Starts an engine behind a gate; sets the gate's capacity to what the engine can run."""


@dataclass(frozen=True, slots=True)
class Lifecycle:
    """Parts of one service; `lifespan` makes it run.

    Without `start_engine` the engine is vLLM.
    """

    settings: Settings
    status: Status
    tenancy: Tenancy
    requests: OpenRequests
    metrics: Metrics
    adapter_metrics: AdapterMetrics
    telemetry: RequestTelemetry
    start_engine: EngineStart | None
    read_settings: Callable[[], Settings]

    @asynccontextmanager
    async def lifespan(self, app: FastAPI) -> AsyncIterator[None]:
        """Verify the adapters, start the engine, warm it up, prove the adapters, be ready."""
        settings, status = self.settings, self.status
        gate = Gate(settings.gate, self.metrics)
        with status.remembered():
            fetched = await fetch_before_start(settings)
            engine = await (self.start_engine or _start_vllm(app))(settings, gate, self.metrics)
        try:
            with status.remembered():
                await _warm_up(engine)
                fleet = AdapterFleet(engine, settings.model.name, self.adapter_metrics)
                await fleet.apply(settings, fetched)
            app.state.runtime = Runtime(
                settings, status, self.metrics, gate, engine, fleet.registry, QuestionCache(engine)
            )
            drain = Drain(status, self.requests, gate, settings.drain, self.metrics.lifecycle)
            async with (
                self.tenancy.followed(),
                _adapters_followed(fleet, status, self.read_settings),
                _running(Watchdog(engine, gate, status, settings.watchdog).run()),
                _running(self.metrics.loop_lag.run()),
                _drainable(drain, status),
            ):
                self.metrics.follow(engine, lambda: status.stalled)
                status.phase = Phase.READY
                _log.info("ready: %s, digest %s", engine.model.name, engine.model.digest)
                yield
        finally:
            status.phase = Phase.STOPPING
            await engine.stop()
            await asyncio.to_thread(self.telemetry.close)


def _start_vllm(app: FastAPI) -> EngineStart:
    async def start(settings: Settings, gate: Gate, metrics: Metrics) -> Engine:
        from service.vllm_engine.start import start_vllm

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
async def _running(watch: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
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


async def _warm_up(engine: Engine) -> None:
    """Take each path through the engine once, so that no user pays for what is loaded lazily."""
    async with internal_request("warm-up", _WARM_UP_SECONDS):
        prompt = await engine.render("Hello")
        structure = Structure(choice=["yes", "no"])
        for sampling in (Sampling(2, logprobs=TOP_LOGPROBS), Sampling(2, structure=structure)):
            async for _ in engine.generate(prompt, sampling, None):
                pass
        await engine.label_logprobs(prompt, [0, 1], None)
