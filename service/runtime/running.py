"""An engine behind its gate with the configured adapters, without HTTP."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from service.adapters.choice import Versions
from service.adapters.fetch import fetch_before_start
from service.adapters.fleet import AdapterFleet
from service.adapters.metrics import AdapterMetrics
from service.admission.gate import Gate
from service.engine.roles import LanguageModel
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics

EngineStart = Callable[[Settings, Gate, Metrics], Awaitable[LanguageModel]]
"""Starts an engine behind a gate; sets the gate's capacity to what the engine can run."""


@dataclass(frozen=True, slots=True)
class Running:
    """An engine that is warm, the gate before it, and its adapters, proven."""

    engine: LanguageModel
    gate: Gate
    fleet: AdapterFleet


@asynccontextmanager
async def running(
    settings: Settings,
    start_engine: EngineStart,
    metrics: Metrics | None = None,
    adapter_metrics: AdapterMetrics | None = None,
    versions: Versions | None = None,
) -> AsyncIterator[Running]:
    """Verify the adapters, start the engine, warm it up, prove the adapters; stop it at the end.

    Raises ConfigurationError if one of these fails. Without `metrics` and `adapter_metrics` the
    series are not shown. Without `versions` planned versions are loaded, and are served as
    `name@version` only.
    """
    metrics = metrics or Metrics(CollectorRegistry())
    adapter_metrics = adapter_metrics or AdapterMetrics(CollectorRegistry())
    gate = Gate(settings.gate, metrics.of_engine(settings.base.name))
    fetched = await fetch_before_start(settings)
    engine = await start_engine(settings, gate, metrics)
    try:
        await engine.warm_up()
        names = [each.name for each in settings.encoders]
        fleet = AdapterFleet(engine, settings.base.name, adapter_metrics, names, versions)
        await fleet.apply(settings, fetched)
        yield Running(engine, gate, fleet)
    finally:
        await engine.stop()
