"""`llm-service init` for models of real shapes on faked hardware."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from service.cli.main import app
from service.models.base_model import read_base_model
from service.models.file_list import pin_folder
from service.plugins.planning import memory, proposal
from service.plugins.planning.machine import GIB, Machine
from service.plugins.planning.memory import estimate_memory
from service.settings import section as platform
from service.settings.load import load_settings
from service.vllm.arguments import engine_config, parse_engine_arguments
from tests.adapters.samples import AdapterFolder
from tests.engine.shaped import FIVE
from tests.engine.test_memory import FITS, GPUS, _cuda, _own_environment, card, models

__all__ = ["_cuda", "_own_environment", "models"]

COUNTS = {"Llama-3.1-8B": 2, "Qwen2.5-32B": 8, "Llama-3.1-70B": 8}
"""GPUs in the faked machine; one for the others."""


CRAMPED = {("Llama-3.1-8B", "L4")}
"""Models and the cards that hold them, but with less than 32 requests of 1,024 tokens."""


def init(*arguments: str | Path) -> Any:
    return CliRunner().invoke(app, ["init", *map(str, arguments)])


def on(monkeypatch: pytest.MonkeyPatch, machine: Machine) -> None:
    monkeypatch.setattr(proposal, "find_machine", lambda: machine)
    monkeypatch.setattr(memory, "find_machine", lambda: machine)


@pytest.mark.usefixtures("_cuda")
@pytest.mark.parametrize(
    ("name", "gpu"),
    [
        pytest.param(name, gpu, marks=[] if place == other else pytest.mark.slow)
        for place, name in enumerate(FIVE)
        for other, gpu in enumerate(GPUS)
    ],
)
def test_five_models_on_five_gpus(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, gpu: str
) -> None:
    machine = card(gpu, COUNTS.get(name, 1))
    on(monkeypatch, machine)
    written = tmp_path / "config.yaml"
    result = init(models / name, "--output", written)
    if (name, gpu) == ("Llama-3.1-70B", "T4"):
        assert "the weights take 131.4 GiB of the 13.1 GiB" in result.stderr
        return
    assert result.exit_code == 0, result.stderr
    settings = load_settings(written)
    estimate = estimate_memory(engine_config(parse_engine_arguments(settings)), settings, machine)
    assert estimate.refusals() == []
    taken = estimate.plan.tensor_parallel
    assert (taken == 1) is (gpu in FITS[name] and (name, gpu) not in CRAMPED)
    assert settings.engine["dtype"] == ("float16" if gpu == "T4" else "auto")
    assert estimate.sequences is not None
    assert estimate.sequences >= 1
    assert settings.engine["max_num_seqs"] >= (4 if taken == COUNTS.get(name, 1) else 32)
    assert "no other program uses the GPUs" in result.stdout
    assert "requests have 1024 tokens on average" in written.read_text()


@pytest.mark.usefixtures("_cuda")
def test_what_fits_on_no_gpu_there_is_refused(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, card("T4"))
    refused = init(models / "Llama-3.1-70B", "--output", tmp_path / "config.yaml")
    assert refused.exit_code == 2
    assert "error: nothing fits:\n  the weights take 131.4 GiB" in refused.stderr
    assert not (tmp_path / "config.yaml").exists()


@pytest.mark.usefixtures("_cuda")
def test_memory_that_other_programs_use_is_left_to_them(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = card("H100-80")
    (device,) = whole.devices
    used = type(device)(device.name, device.total, int(device.total * 0.6), device.capability)
    on(monkeypatch, Machine((used,), whole.host_total, whole.host_free, False))
    result = init(models / "Llama-3.1-8B", "--output", tmp_path / "config.yaml")
    assert result.exit_code == 0, result.stderr
    assert load_settings(tmp_path / "config.yaml").engine["gpu_memory_utilization"] == 0.59


@pytest.mark.usefixtures("_cuda")
def test_a_build_for_gpus_needs_one(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, Machine((), 64 * GIB, 60 * GIB, False))
    refused = init(models / "SmolLM2-135M", "--output", tmp_path / "config.yaml")
    assert refused.exit_code == 2
    assert "no GPU was found, and this build of vLLM needs one" in refused.stderr


def test_on_cpus_the_file_is_checked_by_serve(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(platform, "installed", lambda: platform.CPU)
    on(monkeypatch, Machine((), 16 * GIB, 12 * GIB, True))
    written = tmp_path / "config.yaml"
    result = init(models / "SmolLM2-135M", "--output", written, "--name", "small")
    assert result.exit_code == 0, result.stderr
    settings = load_settings(written)
    assert settings.base.name == "small"
    assert settings.cpu.kv_cache_gib == 4
    assert settings.engine["enforce_eager"] is True
    checked = CliRunner().invoke(app, ["serve", "--config", str(written), "--check"])
    assert checked.exit_code == 0, checked.stderr
    assert yaml.safe_load(checked.stdout)["model"]["name"] == "small"
    again = init(models / "SmolLM2-135M", "--output", written)
    assert again.exit_code == 2
    assert f"{written}: exists already; --force replaces it" in again.stderr
    forced = init(models / "SmolLM2-135M", "--output", written, "--force")
    assert forced.exit_code == 0, forced.stderr
    assert load_settings(written).base.name == "SmolLM2-135M"


@pytest.mark.usefixtures("_cuda")
def test_adapters_decide_the_rank_and_are_pinned(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on(monkeypatch, card("L4"))
    folder = models / "SmolLM2-135M"
    described = read_base_model(folder, name="SmolLM2-135M", max_rank=16)
    adapter = AdapterFolder(tmp_path / "tone", described)
    q, v = "model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.v_proj"
    adapter.tensors = {
        f"base_model.model.{module}.lora_{side}.weight": np.full(shape, 0.01, np.float32)
        for module, sides in {
            q: {"A": (12, 576), "B": (576, 12)},
            v: {"A": (12, 576), "B": (192, 12)},
        }.items()
        for side, shape in sides.items()
    }
    adapter.config["r"] = 12
    adapter.config["target_modules"] = [each.removeprefix("model.") for each in (q, v)]
    adapter.save()
    listed = pin_folder(folder, "here")
    written = tmp_path / "config.yaml"
    result = init(folder, "--adapter", adapter.path, "--output", written)
    assert result.exit_code == 0, result.stderr
    settings = load_settings(written)
    assert settings.engine["max_lora_rank"] == 16
    (wanted,) = settings.adapters
    assert Path(wanted.source) == adapter.path
    assert wanted.digest is not None
    assert settings.base.digest == listed.digest
    assert "sentiment, rank 12" in written.read_text()
    assert "places of rank 16" in result.stdout
