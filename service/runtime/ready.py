"""A service that runs: its parts start in order and stop in reverse."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from service.classification.question_cache import QuestionCache
from service.engine.protocol import Pulse
from service.fleet.fleet import Change
from service.fleet.metrics import AdapterMetrics
from service.fleet.models import Models
from service.gate.gate import Gate
from service.runtime.drain import Drain
from service.runtime.encoders import EncoderStart, running_encoders
from service.runtime.open_requests import OpenRequests
from service.runtime.parts import Runtime
from service.runtime.running import EngineStart, running
from service.runtime.status import Phase, Reload, Status
from service.runtime.watchdog import Watchdog
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestTelemetry
from service.tenants.tenancy import Tenancy

_log = logging.getLogger(__name__)

_RESIDENCY_SECONDS = 10.0


@asynccontextmanager
async def ready(
    settings: Settings,
    status: Status,
    *,
    tenancy: Tenancy,
    requests: OpenRequests,
    metrics: Metrics,
    adapter_metrics: AdapterMetrics,
    telemetry: RequestTelemetry,
    start_engine: EngineStart,
    start_encoder: EncoderStart,
    read_settings: Callable[[], Settings],
) -> AsyncIterator[Runtime]:
    """Run the engine and its adapters, and be ready; the phase of a start that fails stays."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, telemetry.close)
        with status.starting():
            parts = await stack.enter_async_context(
                running(settings, start_engine, metrics, adapter_metrics)
            )
            encoders = await stack.enter_async_context(
                running_encoders(settings, start_encoder, metrics)
            )
        engine, fleet = parts.engine, parts.fleet
        gates = [parts.gate, *(each.gate for each in encoders.running)]
        drain = Drain(status, requests, gates, settings.drain, metrics.lifecycle)
        stack.callback(setattr, status, "phase", Phase.STOPPING)
        await stack.enter_async_context(tenancy.followed())
        watched: list[tuple[str, Pulse, Gate]] = [(engine.model.name, engine, parts.gate)]
        watched += [(each.engine.info.name, each.engine, each.gate) for each in encoders.running]
        for watch in (
            *(Watchdog(*each, status, settings.watchdog).run() for each in watched),
            fleet.watch_residency(_RESIDENCY_SECONDS),
            metrics.loop_lag.run(),
        ):
            await stack.enter_async_context(_watching(watch))
        stack.enter_context(_controllable(status, partial(fleet.reload, read_settings), drain))
        _show(watched, metrics, status)
        metrics.lifecycle.built(engine.model)
        status.phase = Phase.READY
        _log.info("ready: %s, digest %s", engine.model.name, engine.model.digest)
        yield Runtime(
            settings=settings,
            status=status,
            metrics=metrics,
            engine=engine,
            encoders=[each.engine for each in encoders.running],
            models=Models(fleet.registry, encoders.by_name),
            questions=QuestionCache(engine),
        )


def _show(watched: Sequence[tuple[str, Pulse, Gate]], metrics: Metrics, status: Status) -> None:
    """Show each engine's steps, and what its watchdog says, in its series."""

    def follow(name: str, pulse: Pulse) -> None:
        series = metrics.of_engine(name)
        series.follow(lambda: pulse.last_step, lambda: name in status.stalled)

    for name, pulse, _ in watched:
        follow(name, pulse)


@asynccontextmanager
async def _watching(watch: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run a watch of the engine, its adapters or the loop while the service is ready."""
    task = asyncio.create_task(watch)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@contextmanager
def _controllable(
    status: Status, reload: Callable[[], Coroutine[Any, Any, Change]], drain: Drain
) -> Iterator[None]:
    """Let signals and the operations port reload and drain while the service is ready."""
    loop = asyncio.get_running_loop()

    def start(lame_duck: bool) -> None:
        loop.call_soon_threadsafe(partial(drain.start, lame_duck=lame_duck))

    status.reload, status.drain = Reload(loop, reload), start
    try:
        yield
    finally:
        status.reload = status.drain = None
