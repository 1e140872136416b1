"""Encoders that are refused by name before any process of theirs is started."""

import asyncio
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from prometheus_client import CollectorRegistry
from safetensors.torch import load_file

from service.admission.controller import AdmissionController
from service.errors import ConfigurationError
from service.settings.admission import AdmissionSettings, PreparationSettings
from service.settings.encoders import EncoderSettings
from service.settings.tree import Settings
from service.telemetry.metrics import Metrics
from service.vllm.encoder import check_shares, environment_of
from service.vllm.environment import COMPILER_OFF
from service.vllm.start import VllmEngines
from tests.served.configuration import SMALL_ENCODER
from tests.served.tiny_encoder import build_tiny_encoder


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(os, "environ", os.environ.copy())
        yield


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    build_tiny_encoder(tmp_path / "topics", ["a", "b"])
    return tmp_path / "topics"


def refusal(folder: Path, **fields: Any) -> str:
    encoder = EncoderSettings(name="topics", path=folder, **({"engine": SMALL_ENCODER} | fields))
    metrics = Metrics(CollectorRegistry())
    admission = AdmissionController(AdmissionSettings(), metrics.of_engine("topics"))
    settings = Settings(encoders=[encoder])
    start = VllmEngines(settings).start_encoder(encoder, admission, metrics, PreparationSettings())
    with pytest.raises(ConfigurationError) as caught:
        asyncio.run(start)
    assert str(caught.value).startswith("encoder topics: ")
    return str(caught.value)


def changed(folder: Path, **fields: Any) -> Path:
    config = json.loads((folder / "config.json").read_text()) | fields
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_another_digest(folder: Path) -> None:
    assert "digest: must be that of" in refusal(folder, digest=f"sha256:{'0' * 64}")


def test_pickled_weights(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    assert "found pytorch_model.bin, a format that is not served" in refusal(folder)


def test_code_of_the_folder(folder: Path) -> None:
    (folder / "own.py").write_text("raise SystemExit('it ran')")
    auto = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    told = refusal(changed(folder, model_type="own", auto_map=auto))
    assert "trust_remote_code" in told


def test_a_language_model(smollm2_folder: Path) -> None:
    assert "is a language model" in refusal(smollm2_folder)


def test_a_folder_that_is_not_there(folder: Path) -> None:
    shutil.rmtree(folder)
    assert "there is no such folder" in refusal(folder)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("runner", "generate", "always `pooling`"),
        ("enable-lora", True, "encoders have no adapters"),
        ("trust_remote_code", True, "code from a model folder is never run"),
        ("dtpye", "float32", "did you mean 'dtype'?"),
        ("max_model_len", 10_000, "max_model_len"),
    ],
)
def test_arguments_that_are_not_accepted(folder: Path, name: str, value: Any, says: str) -> None:
    assert says in refusal(folder, engine=SMALL_ENCODER | {name: value})


def test_the_shares_of_memory_add_up(folder: Path) -> None:
    def check(own: float | None) -> None:
        engine = {} if own is None else {"gpu_memory_utilization": own}
        settings = Settings(
            model={"name": "base", "path": "/models/base"},
            engine=engine,
            encoders=[{"name": "topics", "path": str(folder), "engine": SMALL_ENCODER}],
        )
        check_shares(settings)

    check(0.95)
    with pytest.raises(ConfigurationError, match=r"at most 1 together, got base 0.96, topics 0.05"):
        check(0.96)


def test_each_engine_has_the_compiler_that_it_asks_for(folder: Path) -> None:
    os.environ[COMPILER_OFF] = "1"
    compiled = EncoderSettings(name="topics", path=folder)
    with environment_of(compiled):
        assert COMPILER_OFF not in os.environ
    assert os.environ[COMPILER_OFF] == "1"
