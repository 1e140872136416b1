"""The one-layer model on its engine in the tests' process, without a service around it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from service.admission.controller import AdmissionController
from service.settings.admission import AdmissionSettings
from service.settings.tree import ModelSettings, Settings
from service.telemetry.metrics import Metrics
from service.vllm.engine import VllmEngine
from service.vllm.served import VllmModel
from service.vllm.start import start_vllm
from tests.served.configuration import CLIENT, ENGINE
from tests.served.server import PATIENT

Running = tuple[asyncio.Runner, VllmModel, AdmissionController]


def engine_of(model: VllmModel) -> VllmEngine:
    """The engine behind admission control."""
    assert isinstance(model._engine, VllmEngine)
    return model._engine


def llm_of(model: VllmModel) -> Any:
    """vLLM's client of the engine."""
    return engine_of(model)._llm


def settings_of(folder: Path, *, sequences: int, client: str = CLIENT) -> Settings:
    """The settings of a model whose engine takes so many sequences at once."""
    return Settings(
        model=ModelSettings(name="tiny", path=folder),
        engine=ENGINE
        | {"dtype": "float32", "max_num_seqs": sequences, "max_model_len": 512, "client": client},
    )


@contextmanager
def running_engine(folder: Path, *, sequences: int, client: str = CLIENT) -> Iterator[Running]:
    """Run a model's engine behind admission control; it takes so many sequences at once."""
    settings = settings_of(folder, sequences=sequences, client=client)
    metrics = Metrics(CollectorRegistry())
    admission = AdmissionController(
        AdmissionSettings(**PATIENT["admission"]), metrics.of_engine("tiny")
    )
    with asyncio.Runner() as runner:
        engine = runner.run(start_vllm(settings, admission, metrics))
        yield runner, engine, admission
        runner.run(engine.stop())
