"""The one-layer model on its engine in the tests' process, without a service around it."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

from service.admission.gate import Gate
from service.settings.gate import GateSettings
from service.settings.tree import ModelSettings, Settings
from service.telemetry.metrics import Metrics
from service.vllm.engine import VllmEngine
from service.vllm.start import VllmModel, start_vllm
from tools.served.configuration import CLIENT, ENGINE
from tools.served.server import PATIENT

Running = tuple[asyncio.Runner, VllmModel, Gate]


def engine_of(model: VllmModel) -> VllmEngine:
    """The engine behind the gate."""
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
    """Run a model's engine, which takes so many sequences at once, and a gate before it."""
    settings = settings_of(folder, sequences=sequences, client=client)
    metrics = Metrics(CollectorRegistry())
    gate = Gate(GateSettings(**PATIENT["gate"]), metrics.of_engine("tiny"))
    with asyncio.Runner() as runner:
        engine = runner.run(start_vllm(settings, gate, metrics))
        yield runner, engine, gate
        runner.run(engine.stop())
