"""The process of an engine's worker on CPUs."""

import os
from pathlib import Path
from typing import Any

import pytest
from vllm.v1.executor.uniproc_executor import UniProcExecutor

from service.settings.tree import ModelSettings, Settings
from service.vllm_engine.arguments import engine_config, parse_engine_arguments
from tools.served.configuration import ENGINE
from tools.served.server import Server


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({}, UniProcExecutor),
        ({"distributed_executor_backend": "mp"}, "mp"),
        ({"tensor_parallel_size": 2}, "mp"),
    ],
)
def test_one_worker_shares_the_engines_process_unless_stated(
    tiny_folder: Path, stated: dict[str, Any], expected: object
) -> None:
    model = ModelSettings(name="tiny", path=tiny_folder)
    settings = Settings(model=model, engine=ENGINE | {"dtype": "float32"} | stated)
    config = engine_config(parse_engine_arguments(settings))
    assert config.parallel_config.distributed_executor_backend == expected


def test_the_engines_process_computes_on_all_cores(tiny: Server) -> None:
    assert not any("Worker" in " ".join(each.cmdline()) for each in tiny.family())
    cores = len(os.sched_getaffinity(0))
    assert f"OMP_NUM_THREADS={cores} is set" in tiny.log.read_text()
