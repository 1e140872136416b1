"""A service from the parts that exist before its engines start to its drain and its end."""

import asyncio
import logging
import operator
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from prometheus_client import CollectorRegistry

from service.adapters.choice import Models
from service.adapters.fleet import FleetChange
from service.adapters.metrics import AdapterMetrics
from service.admission.controller import AdmissionController
from service.common.aio import ParallelStack, beside
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
from service.telemetry.lifecycle import LifecycleMetrics, TenantMetrics
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
        metrics = Metrics(registry, settings.metrics, settings.slo)
        tenancy = Tenancy(settings, TenantMetrics(registry))
        return cls(
            metrics=metrics,
            adapter_metrics=AdapterMetrics(registry),
            telemetry=RequestTelemetry.of(settings, metrics),
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
    """Run the engines, the adapters and the plugins, and set the phase to ready while they run.

    If the start fails, the phase stays as it was.
    """
    metrics, plugins = foundation.metrics, foundation.plugins
    async with AsyncExitStack() as stack:
        stack.push_async_callback(asyncio.to_thread, foundation.close)
        enter = stack.enter_async_context
        with status.starting():
            engines = _engines(settings, foundation, start_engine, start_encoder)
            model, encoders = await enter(engines)
        stack.callback(setattr, status, "phase", Phase.STOPPING)
        await enter(foundation.tenancy.follow_keys())
        watched = _watched(model, encoders)
        for each in watched:
            _show(each, metrics, status)
            await enter(beside(Watchdog(*each, status, settings.watchdog).run()))
        await enter(beside(metrics.loop_lag.run()))
        if model is not None:
            await enter(beside(model.fleet.watch_residency(_RESIDENCY_SECONDS)))
        registry = None if model is None else model.registry
        runtime = Runtime(
            settings=settings,
            status=status,
            metrics=metrics,
            language_model=model,
            encoders=[each.engine for each in encoders.running],
            models=Models(registry, encoders.by_name, plugins.versions()),
            admission=watched[0].admission,
            call=call,
            plugins=plugins,
        )
        for plugin in plugins:
            await enter(plugin.lifespan(runtime))
        drain = _drain(settings, status, foundation, watched)
        stack.enter_context(_controllable(status, model, read_settings, drain))
        _announce(model, metrics, status)
        yield runtime


@asynccontextmanager
async def _engines(
    settings: Settings,
    foundation: Foundation,
    start_engine: EngineStart,
    start_encoder: EncoderStart,
) -> AsyncIterator[tuple[LanguageModel | None, RunningEncoders]]:
    """Start the model's engine, then those of the encoders; stop all side by side."""
    metrics, versions = foundation.metrics, foundation.plugins.versions()
    async with ParallelStack() as stack:
        model = None
        if settings.model is not None:
            adapter_metrics = foundation.adapter_metrics
            started = running(settings, start_engine, metrics, adapter_metrics, versions)
            model = await stack.enter(started)
        yield model, await stack.enter(running_encoders(settings, start_encoder, metrics))


def _watched(model: LanguageModel | None, encoders: RunningEncoders) -> list[_Watched]:
    """The model's engine, if there is one, then those of the encoders."""
    found = [
        _Watched(each.engine.info.name, each.engine, each.admission) for each in encoders.running
    ]
    if model is not None:
        found.insert(0, _Watched(model.engine.model.name, model.engine, model.admission))
    return found


def _show(engine: _Watched, metrics: Metrics, status: Status) -> None:
    """Export an engine's last step, and whether its watchdog found it stalled."""
    last_step = partial(getattr, engine.pulse, "last_step")
    stalled = partial(operator.contains, status.stalled, engine.name)
    metrics.of_engine(engine.name).follow(last_step, stalled)


def _announce(running_model: LanguageModel | None, metrics: Metrics, status: Status) -> None:
    """Say that the service is ready, and what it serves."""
    model = None if running_model is None else running_model.engine.model
    metrics.lifecycle.show_build(model)
    if model is not None and model.client:
        client = f"vLLM {model.vllm}, reached by its {model.client} client"
        status.details = (client, *model.client_notes)
    status.phase = Phase.READY
    if model is None:
        _log.info("ready: encoders only")
    else:
        _log.info("ready: %s, digest %s", model.name, model.digest)


def _drain(
    settings: Settings, status: Status, foundation: Foundation, watched: Sequence[_Watched]
) -> "Drain":
    controllers = [each.admission for each in watched]
    lifecycle, drains = foundation.metrics.lifecycle, foundation.plugins.drains
    return Drain(status, foundation.requests, controllers, settings.drain, lifecycle, drains)


@contextmanager
def _controllable(
    status: Status,
    model: LanguageModel | None,
    read_settings: Callable[[], Settings],
    drain: "Drain",
) -> Iterator[None]:
    """Offer reload and drain in `status` while the service is ready."""
    loop = asyncio.get_running_loop()

    async def reload() -> FleetChange:
        if model is None:
            _log.info("adapters: none to reload: this service has no language model")
            return FleetChange((), (), (), ())
        return await model.fleet.reload(read_settings)

    def start_drain(lame_duck: bool) -> None:
        loop.call_soon_threadsafe(partial(drain.start, lame_duck=lame_duck))

    status.reload, status.drain, status.loop = reload, start_drain, loop
    try:
        yield
    finally:
        status.reload = status.drain = status.loop = None


class Drain:
    """Takes a service out of rotation, lets accepted requests finish, and stops it.

    First it is not ready and serves on, while load balancers take notice (`lame_duck_s`); work that
    no caller waits for ends (`stop_background`). Then new requests are refused, and those that are
    open have `budget_s` to finish. What is left after that ends with an error of its own, never as
    if it were complete, while the server stops: it gives clients time to read what they are sent.
    """

    def __init__(
        self,
        status: Status,
        requests: OpenRequests,
        controllers: Sequence[AdmissionController],
        settings: DrainSettings,
        metrics: LifecycleMetrics,
        stop_background: Callable[[], None] = lambda: None,
    ) -> None:
        self._status = status
        self._requests = requests
        self._controllers = controllers
        self._settings = settings
        self._metrics = metrics
        self._stop_background = stop_background
        self._task: asyncio.Task[None] | None = None

    def start(self, *, lame_duck: bool = True) -> None:
        """Begin; a second call changes nothing. To be called on the loop that serves."""
        if self._task is None:
            seconds = self._settings.lame_duck_s if lame_duck else 0.0
            self._status.phase = Phase.DRAINING
            self._stop_background()
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
