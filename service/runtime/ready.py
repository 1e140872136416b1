"""Parts of a service that exist before its engine starts."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import (
    AbstractAsyncContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry

from service.adapters.choice import Models, Versions
from service.adapters.fleet import FleetChange
from service.adapters.metrics import AdapterMetrics
from service.admission.gate import Gate
from service.classification.classifier import QuestionCache
from service.common.aio import ParallelStack, beside
from service.engine.contract import Pulse
from service.runtime.drain import Drain, OpenRequests
from service.runtime.parts import Call, Host, LanguageModel, Plugins, Runtime
from service.runtime.running import (
    EncoderStart,
    EngineStart,
    Running,
    RunningEncoders,
    running,
    running_encoders,
)
from service.runtime.status import Phase, Reload, Status
from service.runtime.watchdog import Watchdog
from service.settings.tree import Settings
from service.sources import redirects
from service.telemetry.metrics import Metrics, TenantMetrics
from service.telemetry.requests import RequestTelemetry
from service.tenants.tenancy import Tenancy


@dataclass(frozen=True, slots=True)
class Foundation:
    """The metrics, the tenants and the plugins.

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

    def running(
        self, settings: Settings, start_engine: EngineStart
    ) -> AbstractAsyncContextManager[Running | None]:
        """Run the language model's engine with its adapters; None without a language model."""
        if settings.model is None:
            return nullcontext()
        versions = self.plugins.versions()
        return running(settings, start_engine, self.metrics, self.adapter_metrics, versions)

    def close(self) -> None:
        """Send the remaining traces, and have plugins save their state; blocks meanwhile."""
        self.telemetry.close()
        self.plugins.close()


_log = logging.getLogger(__name__)

_RESIDENCY_SECONDS = 10.0


class _Watched(NamedTuple):
    """An engine, by the name of its model, with its gate."""

    name: str
    pulse: Pulse
    gate: Gate


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
            decoder, encoders = await enter(engines)
        stack.callback(setattr, status, "phase", Phase.STOPPING)
        await enter(foundation.tenancy.follow_keys())
        watched = _watched(decoder, encoders)
        drain = _drain(settings, status, foundation, watched)
        for each in watched:
            await enter(beside(Watchdog(*each, status, settings.watchdog).run()))
        await enter(beside(metrics.loop_lag.run()))
        if decoder is not None:
            await enter(beside(decoder.fleet.watch_residency(_RESIDENCY_SECONDS)))
        _show(watched, metrics, status)
        runtime = Runtime(
            settings=settings,
            status=status,
            metrics=metrics,
            language_model=None if decoder is None else _language_model(decoder),
            encoders=[each.engine for each in encoders.running],
            models=_models(decoder, encoders, plugins.versions()),
            gate=watched[0].gate,
            call=call,
            plugins=plugins,
        )
        for plugin in plugins:
            await enter(plugin.lifespan(runtime))
        stack.enter_context(_controllable(status, decoder, read_settings, drain))
        _announce(decoder, metrics, status)
        yield runtime


@asynccontextmanager
async def _engines(
    settings: Settings,
    foundation: Foundation,
    start_engine: EngineStart,
    start_encoder: EncoderStart,
) -> AsyncIterator[tuple[Running | None, RunningEncoders]]:
    """Start the model's engine, then those of the encoders; stop all side by side."""
    async with ParallelStack() as stack:
        decoder = await stack.enter(foundation.running(settings, start_engine))
        encoders = running_encoders(settings, start_encoder, foundation.metrics)
        yield decoder, await stack.enter(encoders)


def _drain(
    settings: Settings, status: Status, foundation: Foundation, watched: Sequence[_Watched]
) -> Drain:
    gates = [each.gate for each in watched]
    lifecycle = foundation.metrics.lifecycle
    drains = foundation.plugins.drains
    return Drain(status, foundation.requests, gates, settings.drain, lifecycle, drains)


def _models(
    decoder: Running | None, encoders: RunningEncoders, versions: Versions | None
) -> Models:
    registry = None if decoder is None else decoder.fleet.registry
    return Models(registry, encoders.by_name, versions)


def _language_model(decoder: Running) -> LanguageModel:
    questions = QuestionCache(decoder.engine)
    return LanguageModel(decoder.engine, decoder.gate, decoder.fleet.registry, questions)


def _reload(
    decoder: Running | None, read_settings: Callable[[], Settings]
) -> Callable[[], Coroutine[Any, Any, FleetChange]]:
    return _no_adapters if decoder is None else partial(decoder.fleet.reload, read_settings)


async def _no_adapters() -> FleetChange:
    """The reload of a service without a language model."""
    _log.info("adapters: none to reload: this service has no language model")
    return FleetChange((), (), (), ())


def _watched(decoder: Running | None, encoders: RunningEncoders) -> list[_Watched]:
    """The decoder's engine, if there is one, then those of the encoders."""
    found = []
    if decoder is not None:
        found.append(_Watched(decoder.engine.model.name, decoder.engine, decoder.gate))
    for each in encoders.running:
        found.append(_Watched(each.engine.info.name, each.engine, each.gate))
    return found


def _announce(decoder: Running | None, metrics: Metrics, status: Status) -> None:
    """Say that the service is ready, and what it serves."""
    model = None if decoder is None else decoder.engine.model
    metrics.lifecycle.built(model)
    if model is not None and model.client:
        client = f"vLLM {model.vllm}, reached by its {model.client} client"
        status.details = (client, *model.client_notes)
    status.phase = Phase.READY
    if model is None:
        _log.info("ready: encoders only")
    else:
        _log.info("ready: %s, digest %s", model.name, model.digest)


def _show(watched: Sequence[_Watched], metrics: Metrics, status: Status) -> None:
    """Export each engine's last step, and whether its watchdog found it stalled."""

    def follow(name: str, pulse: Pulse) -> None:
        series = metrics.of_engine(name)
        series.follow(lambda: pulse.last_step, lambda: name in status.stalled)

    for each in watched:
        follow(each.name, each.pulse)


@contextmanager
def _controllable(
    status: Status,
    decoder: Running | None,
    read_settings: Callable[[], Settings],
    drain: Drain,
) -> Iterator[None]:
    """Offer reload and drain in `status` while the service is ready."""
    loop = asyncio.get_running_loop()

    def start(lame_duck: bool) -> None:
        loop.call_soon_threadsafe(partial(drain.start, lame_duck=lame_duck))

    status.reload, status.drain = Reload(loop, _reload(decoder, read_settings)), start
    status.loop = loop
    try:
        yield
    finally:
        status.reload = status.drain = status.loop = None
