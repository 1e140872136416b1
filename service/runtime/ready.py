"""A service that runs: its parts start in order and stop in reverse."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from service.batches.batches import Batches
from service.batches.line_call import Call
from service.classification.question_cache import QuestionCache
from service.fleet.fleet import Change
from service.fleet.metrics import AdapterMetrics
from service.fleet.models import Models
from service.runtime.drain import Drain
from service.runtime.open_requests import OpenRequests
from service.runtime.parts import Runtime
from service.runtime.running import EngineStart, running
from service.runtime.status import Phase, Reload, Status
from service.runtime.watchdog import Watchdog
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.telemetry.requests import RequestTelemetry
from service.tenants.tenancy import Tenancy
from service.usage.ledger import Ledger

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
    batches: Batches | None,
    usage: Ledger | None,
    call: Call,
    start_engine: EngineStart,
    read_settings: Callable[[], Settings],
) -> AsyncIterator[Runtime]:
    """Run the engine and its adapters, and be ready; the phase of a start that fails stays."""
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, telemetry.close)
        if usage is not None:
            await stack.enter_async_context(usage.kept())
        with status.starting():
            parts = await stack.enter_async_context(
                running(settings, start_engine, metrics, adapter_metrics)
            )
        engine, gate, fleet = parts.engine, parts.gate, parts.fleet
        drain = Drain(status, requests, gate, settings.drain, metrics.lifecycle)
        stack.callback(setattr, status, "phase", Phase.STOPPING)
        await stack.enter_async_context(tenancy.followed())
        for watch in (
            Watchdog(engine, gate, status, settings.watchdog).run(),
            fleet.watch_residency(_RESIDENCY_SECONDS),
            metrics.loop_lag.run(),
        ):
            await stack.enter_async_context(_watching(watch))
        if batches is not None:
            await stack.enter_async_context(batches.running(call, lambda: gate.flex_room))
        stack.enter_context(_controllable(status, partial(fleet.reload, read_settings), drain))
        metrics.follow(engine, engine.model, lambda: status.stalled)
        status.phase = Phase.READY
        _log.info("ready: %s, digest %s", engine.model.name, engine.model.digest)
        yield Runtime(
            settings=settings,
            status=status,
            metrics=metrics,
            engine=engine,
            models=Models(fleet.registry),
            questions=QuestionCache(engine),
            batches=batches,
            usage=usage,
        )


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
