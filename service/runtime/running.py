"""Runs an engine behind its admission control, with the configured adapters and without HTTP."""

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from service.adapters.choice import Versions
from service.adapters.fetch import fetch_before_start
from service.adapters.fleet import AdapterFleet
from service.adapters.heads import prove_head
from service.adapters.metrics import AdapterMetrics
from service.admission.controller import AdmissionController
from service.classification.classifier import QuestionCache
from service.common.aio import ParallelStack
from service.engine.pooling import EncoderEngine
from service.errors import ConfigurationError, Interrupted, ServiceError
from service.generation.served_model import ServedModel
from service.runtime.parts import LanguageModel
from service.settings.admission import PreparationSettings
from service.settings.encoders import EncoderSettings
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics

EngineStart = Callable[[Settings, AdmissionController, Metrics], Awaitable[ServedModel]]
"""Starts an engine behind admission control; sets its capacity to what the engine can run."""


@asynccontextmanager
async def running(
    settings: Settings,
    start_engine: EngineStart,
    metrics: Metrics | None = None,
    adapter_metrics: AdapterMetrics | None = None,
    versions: Versions | None = None,
) -> AsyncIterator[LanguageModel]:
    """Verify the adapters, start the engine, warm it up, prove the adapters; stop it at the end.

    Raises ConfigurationError if one of these fails. Without `metrics` and `adapter_metrics` there
    are no such series. Without `versions` planned versions are loaded, and are served as
    `name@version` only.
    """
    metrics = metrics or Metrics(CollectorRegistry())
    adapter_metrics = adapter_metrics or AdapterMetrics(CollectorRegistry())
    admission = AdmissionController(settings.admission, metrics.of_engine(settings.base.name))
    fetched = await fetch_before_start(settings)
    engine = await start_engine(settings, admission, metrics)
    try:
        await engine.warm_up()
        names = [each.name for each in settings.encoders]
        fleet = AdapterFleet(engine, settings.base.name, adapter_metrics, names, versions)
        await fleet.apply(settings, fetched)
        yield LanguageModel(engine, admission, fleet, QuestionCache(engine))
    finally:
        await engine.stop()


_log = logging.getLogger(__name__)

EncoderStart = Callable[
    [EncoderSettings, AdmissionController, Metrics, PreparationSettings], Awaitable[EncoderEngine]
]
"""Starts an encoder behind admission control; sets its capacity to what the engine can run."""


@dataclass(frozen=True, slots=True)
class RunningEncoder:
    """An encoder that is warm, and the admission control before it."""

    engine: EncoderEngine
    admission: AdmissionController


RunningEncoders = dict[str, RunningEncoder | None]
"""The configured encoders by name; None for one that is quarantined, since it could not start."""


@asynccontextmanager
async def running_encoders(
    settings: Settings, start: EncoderStart, metrics: Metrics
) -> AsyncIterator[RunningEncoders]:
    """Start the configured encoders in their order, prove their heads, and stop them together.

    Raises ConfigurationError or EngineDead where a required one cannot start or fails its proof;
    another one is quarantined. Raises ConfigurationError if nothing is left to serve.
    """
    async with ParallelStack() as engines:
        encoders: RunningEncoders = {}
        for encoder in settings.encoders:
            try:
                started = _started(encoder, settings, start, metrics)
                encoders[encoder.name] = await engines.enter(started)
            except (ConfigurationError, ServiceError) as error:
                if encoder.required or isinstance(error, Interrupted):
                    raise
                _log.error("encoder %s: quarantined: %s", encoder.name, error)
                encoders[encoder.name] = None
        if settings.model is None and not any(encoders.values()):
            raise ConfigurationError("encoders: none could start, and there is no model")
        yield encoders


@asynccontextmanager
async def _started(
    encoder: EncoderSettings, settings: Settings, start: EncoderStart, metrics: Metrics
) -> AsyncIterator[RunningEncoder]:
    """Start one encoder, warm it up and prove its head; stop it at the end."""
    admission = AdmissionController(settings.admission, metrics.of_engine(encoder.name))
    engine = await start(encoder, admission, metrics, settings.preparation)
    try:
        await engine.warm_up()
        proof = await prove_head(engine, encoder.path, settings.golden_timeout_s)
        info = engine.info
        metrics.lifecycle.show_encoder(info)
        _log.info("encoder %s: task %s, digest %s", info.name, info.task, info.digest)
        if proof is not None:
            _log.info("encoder %s: %s", info.name, proof)
        yield RunningEncoder(engine, admission)
    finally:
        await engine.stop()
