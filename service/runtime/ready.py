"""The life of a service: the parts before its engines start, the engines, the drain, the end."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from service.adapters.choice import Models
from service.adapters.desired import DesiredAdapters
from service.adapters.fleet import FleetChange
from service.adapters.metrics import AdapterMetrics
from service.admission.controller import AdmissionController
from service.admission.shared import SharedService, check_storage
from service.common import gc_tuning
from service.common.aio import ParallelStack, beside, both
from service.engine.contract import Pulse
from service.errors import NotReady
from service.runtime.parts import Call, Host, LanguageModel, OpenRequests, Plugins, Runtime
from service.runtime.running import (
    EncoderStart,
    EngineStart,
    RunningEncoders,
    running,
    running_encoders,
)
from service.runtime.status import Phase, Status
from service.runtime.watchdog import Watchdog
from service.settings.tree import DrainSettings, Settings
from service.sources import redirects
from service.telemetry.lifecycle import TenantMetrics
from service.telemetry.metrics import Metrics, RequestTelemetry
from service.tenants.tenancy import Tenancy

_log = logging.getLogger(__name__)

_RESIDENCY_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Foundation:
    """What exists before an engine starts: the metrics, the tenants and the plugins.

    `of` raises ConfigurationError for keys, an address or a folder that cannot be used.
    """

    metrics: Metrics
    adapter_metrics: AdapterMetrics
    telemetry: RequestTelemetry
    tenancy: Tenancy
    requests: OpenRequests
    plugins: Plugins

    @classmethod
    def of(cls, settings: Settings, status: Status, registry: CollectorRegistry) -> "Foundation":
        """Make the parts, with their series in `registry`."""
        redirects.allow(settings.sources.redirect_hosts)
        check_storage(settings.admission)
        metrics = Metrics(registry, settings.metrics, settings.slo)
        tenancy = Tenancy(settings, TenantMetrics(registry))
        return cls(
            metrics=metrics,
            adapter_metrics=AdapterMetrics(registry),
            telemetry=RequestTelemetry(settings, metrics),
            tenancy=tenancy,
            requests=OpenRequests(),
            plugins=Plugins.of(Host(settings, registry, metrics, tenancy, status)),
        )

    def close(self) -> None:
        """Send the remaining traces, and have plugins save their state; blocks meanwhile."""
        self.telemetry.close()
        self.plugins.close()


class _Watched(NamedTuple):
    """An engine, by the name of its model, with its admission control."""

    name: str
    pulse: Pulse
    admission: AdmissionController


@asynccontextmanager
async def ready(
    settings: Settings,
    status: Status,
    foundation: Foundation,
    *,
    call: Call,
    start_engine: EngineStart,
    start_encoder: EncoderStart,
    read_settings: Callable[[], Settings],
) -> AsyncIterator[Runtime]:
    """Run the engines, adapters and plugins for a block, in which the phase is ready.

    If the start fails, the phase stays as it was.
    """
    metrics, plugins = foundation.metrics, foundation.plugins
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, foundation.close)
        enter = stack.enter_async_context
        engines = await enter(ParallelStack())
        with status.starting():
            gc_tuning.freeze_imports()
            starts = start_engine, start_encoder
            model, encoders = await _start(engines, settings, foundation, *starts)
        await enter(_frozen_heap())
        stack.callback(setattr, status, "phase", Phase.STOPPING)
        await enter(foundation.tenancy.follow_keys())
        watched = _watched(model, encoders)
        for each in watched:
            metrics.of_engine(each.name).follow(each.pulse, status.stalled)
            await enter(beside(Watchdog(*each, status, settings.watchdog).run()))
            await enter(_sharing(settings, each, metrics, status))
        await enter(beside(metrics.loop_lag.run()))
        adapters = await enter(_adapters(settings, foundation, model, read_settings))
        runtime = Runtime(
            settings=settings,
            status=status,
            metrics=metrics,
            language_model=model,
            encoders=[each.engine for each in encoders.values() if each is not None],
            models=_models(model, encoders, plugins),
            admission=watched[0].admission,
            call=call,
            plugins=plugins,
        )
        for plugin in plugins:
            await enter(plugin.lifespan(runtime))
        drain = Drain(status, foundation, [each.admission for each in watched], settings.drain)
        stack.enter_context(_controllable(status, adapters, drain))
        _announce(model, metrics, status)
        yield runtime


async def _start(
    engines: ParallelStack,
    settings: Settings,
    foundation: Foundation,
    start_engine: EngineStart,
    start_encoder: EncoderStart,
) -> tuple[LanguageModel | None, RunningEncoders]:
    """Start the model and the encoders beside each other; they stop with `engines`."""
    return await both(
        engines.enter(_language_model(settings, foundation, start_engine)),
        engines.enter(running_encoders(settings, start_encoder, foundation.metrics)),
    )


def _frozen_heap() -> AbstractAsyncContextManager[None]:
    """Freeze the heap now, and have it moved to huge pages beside a block."""
    gc_tuning.freeze()
    return beside(asyncio.to_thread(gc_tuning.take_huge_pages))


def _sharing(
    settings: Settings, engine: _Watched, metrics: Metrics, status: Status
) -> AbstractAsyncContextManager[None]:
    """Share an engine's fairness with other replicas during a block, if the settings say so."""
    if settings.admission.storage is None:
        return nullcontext()
    series, alone = metrics.of_engine(engine.name), status.alone
    shared = SharedService(settings.admission, engine.name, engine.admission, series, alone)
    series.follow_sharing(lambda: shared.age, alone)
    return beside(shared.run())


def _language_model(
    settings: Settings, foundation: Foundation, start: EngineStart
) -> AbstractAsyncContextManager[LanguageModel | None]:
    if settings.model is None:
        return nullcontext()
    shown, versions = foundation.adapter_metrics, foundation.plugins.versions()
    return running(settings, start, foundation.metrics, shown, versions)


@asynccontextmanager
async def _adapters(
    settings: Settings,
    foundation: Foundation,
    model: LanguageModel | None,
    read_settings: Callable[[], Settings],
) -> AsyncIterator[DesiredAdapters | None]:
    """Follow the list of adapters, and how adapters are used, for a block."""
    if model is None:
        yield None
        return
    adapters = DesiredAdapters(model.fleet, settings, read_settings, foundation.adapter_metrics)
    async with (
        beside(model.fleet.watch_residency(_RESIDENCY_SECONDS)),
        beside(adapters.follow()),
    ):
        yield adapters


def _models(model: LanguageModel | None, encoders: RunningEncoders, plugins: Plugins) -> Models:
    registry = None if model is None else model.registry
    engines = {name: None if each is None else each.engine for name, each in encoders.items()}
    return Models(registry, engines, plugins.versions())


def _watched(model: LanguageModel | None, encoders: RunningEncoders) -> list[_Watched]:
    """The model's engine, if there is one, then those of the encoders."""
    found = []
    if model is not None:
        found.append(_Watched(model.engine.model.name, model.engine, model.admission))
    for name, encoder in encoders.items():
        if encoder is not None:
            found.append(_Watched(name, encoder.engine, encoder.admission))
    return found


def _announce(running_model: LanguageModel | None, metrics: Metrics, status: Status) -> None:
    """Say that the service is ready, and what it serves."""
    model = None if running_model is None else running_model.engine.model
    metrics.lifecycle.show_build(model)
    if model is not None and model.client:
        client = f"vLLM {model.vllm}, reached by its {model.client} client"
        status.about = (client, *model.client_notes)
    status.phase = Phase.READY
    if model is None:
        _log.info("ready: encoders only")
    else:
        _log.info("ready: %s, digest %s", model.name, model.digest)


@contextmanager
def _controllable(
    status: Status, adapters: DesiredAdapters | None, drain: "Drain"
) -> Iterator[None]:
    """Offer the adapters, reload and drain in `status` while the service is ready."""
    loop = asyncio.get_running_loop()

    async def reload() -> FleetChange:
        if adapters is None:
            _log.info("adapters: none to reload: this service has no language model")
            return FleetChange((), (), (), ())
        return await adapters.reload()

    def start_drain(lame_duck: bool) -> None:
        loop.call_soon_threadsafe(drain.start, lame_duck)

    status.reload, status.drain, status.loop = reload, start_drain, loop
    status.adapters = adapters
    try:
        yield
    finally:
        status.reload = status.drain = status.adapters = status.loop = None


class Drain:
    """Takes a service out of rotation, lets accepted requests finish, and stops it.

    First the service is not ready but still serves, so that load balancers can notice
    (`lame_duck_s`); plugins end work that no caller waits for. Then new requests are refused, and
    open requests have `budget_s` to finish. Then the server stops; requests that are still open end
    with an error, never as if they were complete, and clients have time to read it.
    """

    def __init__(
        self,
        status: Status,
        foundation: Foundation,
        controllers: Sequence[AdmissionController],
        settings: DrainSettings,
    ) -> None:
        self._status = status
        self._requests = foundation.requests
        self._plugins = foundation.plugins
        self._metrics = foundation.metrics.lifecycle
        self._controllers = controllers
        self._settings = settings
        self._task: asyncio.Task[None] | None = None

    def start(self, lame_duck: bool) -> None:
        """Begin; a second call has no effect. Call it on the event loop that serves."""
        if self._task is None:
            seconds = self._settings.lame_duck_s if lame_duck else 0.0
            self._status.phase = Phase.DRAINING
            self._plugins.drains()
            self._metrics.drain_started(seconds + self._settings.budget_s)
            self._task = asyncio.get_running_loop().create_task(self._run(seconds))

    async def _run(self, lame_duck_s: float) -> None:
        budget = self._settings.budget_s
        _log.info("draining: %g s until new requests are refused, then %g s", lame_duck_s, budget)
        await asyncio.sleep(lame_duck_s)
        self._requests.close(lambda: self._refusal(budget))
        try:
            async with asyncio.timeout(budget):
                await self._requests.wait_until_none()
            _log.info("drained")
        except TimeoutError:
            _log.warning("draining: %d requests did not finish in time", self._requests.count)
            for admission in self._controllers:
                admission.close(lambda: self._refusal(budget, "before this answer was complete"))
        self._metrics.drain_ended()
        self._status.stop()

    def _refusal(self, seconds: float, when: str = "and takes no new requests") -> NotReady:
        return NotReady(
            f"This server is stopping {when}. Another one may answer.",
            code="draining",
            retry_after=seconds,
        )
