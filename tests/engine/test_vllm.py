"""The contract of engines, held by vLLM in this process with the one-layer model."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from service.engine.start import start_vllm
from service.engine.vllm import VllmEngine
from service.gate.gate import Gate
from service.settings import GateSettings, ModelSettings, Settings
from service.telemetry.metrics import Metrics
from tests.engine.conftest import ENGINE
from tests.engine.contract import CONTRACT, uphold

Running = tuple[asyncio.Runner, VllmEngine, Gate]


@pytest.fixture(scope="module")
def running(tiny_folder: Path) -> Iterator[Running]:
    settings = Settings(
        model=ModelSettings(name="tiny", path=tiny_folder),
        engine=ENGINE | {"dtype": "float32", "max_num_seqs": 8, "max_model_len": 512},
    )
    metrics = Metrics(CollectorRegistry())
    gate = Gate(GateSettings(), metrics)
    with asyncio.Runner() as runner:
        engine, _ = runner.run(start_vllm(settings, gate, metrics))
        yield runner, engine, gate
        runner.run(engine.stop())


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_vllm_upholds(
    running: Running, check: Callable[[Any, Any], Coroutine[Any, Any, None]]
) -> None:
    runner, engine, gate = running
    runner.run(uphold(check, engine, gate))
