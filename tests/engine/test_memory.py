"""The estimate of memory beside vLLM's own figures, for models of real shapes on faked GPUs."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner
from vllm.config import VllmConfig
from vllm.platforms import current_platform

from service.cli.main import app
from service.errors import ConfigurationError
from service.plugins.planning import memory
from service.plugins.planning.estimate import Estimate
from service.plugins.planning.machine import GIB, Device, Machine
from service.plugins.planning.memory import estimate_memory, refuse_unfit
from service.settings import section as platform
from service.settings.tree import ModelSettings, Settings
from service.vllm import arguments
from service.vllm.arguments import engine_config, parse_engine_arguments
from tests.engine.shaped import FIVE, LATENT, MIXTURE, SLIDING, shapes_of, write_shaped
from tests.engine.vllm_figures import Figures, vllm_figures

GPUS = {"T4": 14.6, "L4": 22.0, "A100-40": 39.4, "H100-80": 79.2, "H200": 139.8}
"""GiB that torch sees of each card."""

FITS = {
    "SmolLM2-135M": set(GPUS),
    "Qwen2.5-1.5B": set(GPUS),
    "Llama-3.1-8B": set(GPUS) - {"T4"},
    "Qwen2.5-32B": {"H100-80", "H200"},
    "Llama-3.1-70B": set[str](),
}
"""Cards of which one holds each model in bfloat16 with places for adapters."""

WINNING = "KVCACHE|ONEDNN"
"""Names of variables that win over the settings."""

ADAPTERS = {"enable_lora": True, "max_loras": 8, "max_lora_rank": 16}


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        kept = {name: value for name, value in os.environ.items() if not re.search(WINNING, name)}
        patch.setattr(os, "environ", kept)
        yield


@pytest.fixture
def _cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "installed", lambda: platform.CUDA)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shaped")
    others = {"mixture": MIXTURE, "sliding": SLIDING, "latent": LATENT}
    for name, config in {**FIVE, **others}.items():
        write_shaped(folder / name, config)
    return folder


def card(name: str, count: int = 1) -> Machine:
    size = int(GPUS[name] * GIB)
    capability = (7, 5) if name == "T4" else (9, 0)
    return Machine((Device(name, size, size, capability),) * count, 256 * GIB, 200 * GIB, False)


def configured(folder: Path, **engine: Any) -> tuple[VllmConfig, Settings]:
    engine = {"dtype": "bfloat16", "max_model_len": 4096, **engine}
    settings = Settings(model=ModelSettings(name="base", path=folder), engine=engine)
    return engine_config(parse_engine_arguments(settings)), settings


def near(found: float, expected: float) -> bool:
    return abs(found - expected) <= 0.1 * expected


def agrees(estimate: Estimate, figures: Figures) -> None:
    needs = estimate.needs
    assert near(needs.weights, figures.weights), (needs.weights, figures.weights)
    assert near(needs.adapters, figures.adapters), (needs.adapters, figures.adapters)
    assert near(needs.sequence, figures.sequence), (needs.sequence, figures.sequence)


@pytest.mark.usefixtures("_cuda")
@pytest.mark.parametrize("name", FIVE)
def test_five_models_on_five_gpus(models: Path, name: str) -> None:
    config, settings = configured(models / name, **ADAPTERS)
    figures = vllm_figures(config)
    for gpu, size in GPUS.items():
        estimate = estimate_memory(config, settings, card(gpu))
        agrees(estimate, figures)
        own = figures.weights + figures.adapters + figures.sequence
        fits = own <= size * GIB * estimate.plan.utilization
        assert (estimate.refusals() == []) is fits is (gpu in FITS[name]), gpu
        if fits:
            left = size * GIB * estimate.plan.utilization - figures.weights - figures.adapters
            assert estimate.sequences is not None
            assert near(estimate.sequences, (left - estimate.needs.workspace) / figures.sequence)


@pytest.mark.usefixtures("_cuda")
@pytest.mark.parametrize(
    ("name", "engine"),
    [
        ("Llama-3.1-70B", {"tensor_parallel_size": 4}),
        ("Llama-3.1-70B", {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}),
        ("Llama-3.1-8B", {"tensor_parallel_size": 8, "fully_sharded_loras": True}),
        ("Qwen2.5-1.5B", {"tensor_parallel_size": 4}),  # more GPUs than heads of keys
        ("Llama-3.1-8B", {"lora_target_modules": ["q_proj", "o_proj"]}),
        # vLLM's CPU build cannot build adapters' places for experts.
        ("mixture", {"tensor_parallel_size": 2, "enable_lora": False}),
    ],
)
def test_split_models_and_places_for_adapters(
    models: Path, name: str, engine: dict[str, Any]
) -> None:
    config, settings = configured(models / name, **{**ADAPTERS, **engine})
    estimate = estimate_memory(config, settings, card("H200", 8))
    stages = range(engine.get("pipeline_parallel_size", 1))
    each = [vllm_figures(config, stage) for stage in stages]
    fullest = max(each, key=lambda own: own.weights + own.adapters + own.sequence)
    agrees(estimate, fullest)


@pytest.mark.usefixtures("_cuda")
@pytest.mark.parametrize("name", ["sliding", "latent", "mixture"])
@pytest.mark.parametrize("length", [4096, 32768])
def test_windows_latent_attention_and_experts(models: Path, name: str, length: int) -> None:
    config, settings = configured(models / name, max_model_len=length)
    agrees(estimate_memory(config, settings, card("H200")), vllm_figures(config))


@pytest.mark.usefixtures("_cuda")
def test_float32_checkpoints_are_held_in_the_engines_type(tmp_path: Path) -> None:
    config = FIVE["SmolLM2-135M"]
    wide = {name: ("F32", shape) for name, (_, shape) in shapes_of(config).items()}
    folder = write_shaped(tmp_path / "wide", config, wide)
    engine, settings = configured(folder)
    agrees(estimate_memory(engine, settings, card("T4")), vllm_figures(engine))


@pytest.mark.usefixtures("_cuda")
def test_quantised_weights_are_counted_as_they_are_stored(tmp_path: Path) -> None:
    config = dict(FIVE["Llama-3.1-8B"])
    config["quantization_config"] = {
        "quant_method": "awq",
        "bits": 4,
        "group_size": 128,
        "zero_point": True,
        "version": "gemm",
    }
    packed = {}
    for name, (dtype, shape) in shapes_of(config).items():
        if "_proj" not in name:
            packed[name] = (dtype, shape)
            continue
        outputs, inputs = shape
        module = name.removesuffix(".weight")
        packed[f"{module}.qweight"] = ("I32", (inputs, outputs // 8))
        packed[f"{module}.qzeros"] = ("I32", (inputs // 128, outputs // 8))
        packed[f"{module}.scales"] = ("F16", (inputs // 128, outputs))
    folder = write_shaped(tmp_path / "awq", config, packed)
    engine, settings = configured(folder, dtype="float16", **ADAPTERS)
    estimate = estimate_memory(engine, settings, card("T4"))
    agrees(estimate, vllm_figures(engine))
    assert estimate.refusals() == []


@pytest.mark.usefixtures("_cuda")
def test_what_cannot_fit_is_refused_before_the_engine_starts(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "find_machine", lambda: card("H100-80"))
    config, settings = configured(models / "Llama-3.1-70B")
    with pytest.raises(ConfigurationError) as refused:
        refuse_unfit(config, settings)
    told = str(refused.value)
    assert told.startswith("memory: this configuration cannot fit:\n  the weights take 131.4 GiB")
    assert "set engine.tensor_parallel_size to 2 on 2 such GPUs" in told
    assert "workspace (rough)" in told


def check(folder: Path, text: str) -> Any:
    file = folder / "config.yaml"
    file.write_text(text)
    return CliRunner().invoke(app, ["serve", "--config", str(file), "--check"])


def test_check_prints_the_figures_beside_the_configuration_without_secrets(
    models: Path, tmp_path: Path
) -> None:
    text = (
        f"model: {{name: base, path: {models / 'SmolLM2-135M'}}}\n"
        "engine: {dtype: bfloat16, max_model_len: 2048, max_num_seqs: 8, hf_token: hunter2}\n"
        "http: {control_token: hunter2hunter2hunter2}\n"
        "quotas: {storage: 'redis://user:hunter2@host:6379/0?password=hunter2'}\n"
    )
    (tmp_path / "config.yaml").write_text(text)
    # A process of its own, whose output nobody but it writes.
    command = [sys.executable, "-m", "service.cli.main", "serve", "--check", "--config"]
    shown = subprocess.run(
        [*command, str(tmp_path / "config.yaml")], capture_output=True, text=True, check=False
    )
    assert shown.returncode == 0, shown.stderr
    printed = yaml.safe_load(shown.stdout)
    assert printed["model"]["name"] == "base"
    assert printed["quotas"]["storage"] == "redis://********"
    assert "hunter2" not in shown.stdout + shown.stderr
    assert "weights" in shown.stderr
    assert "cpu.kv_cache_gib" in shown.stderr
    assert "INFO" not in shown.stderr
    assert "vllm" not in shown.stderr


def test_on_cpus_the_products_that_onednn_keeps_are_counted(models: Path) -> None:
    machine = Machine((), 64 * GIB, 60 * GIB, True)
    config, settings = configured(models / "SmolLM2-135M")
    alone = estimate_memory(config, settings, machine)
    assert (alone.plan.compiled_products, alone.needs.products) == (1024, 1024 * 550_000)
    with_adapters, _ = configured(models / "SmolLM2-135M", **ADAPTERS)
    both = estimate_memory(with_adapters, settings, machine)
    assert (both.plan.compiled_products, both.needs.products) == (2048, 1024 * 1_150_000)
    in_float32, _ = configured(models / "SmolLM2-135M", **ADAPTERS, dtype="float32")
    assert estimate_memory(in_float32, settings, machine).needs.products == 1024 * 550_000
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "256"
    assert estimate_memory(config, settings, machine).needs.products == 256 * 550_000
    os.environ["ONEDNN_PRIMITIVE_CACHE_CAPACITY"] = "many"
    with pytest.raises(ConfigurationError, match="must be a whole number, got 'many'"):
        refuse_unfit(config, settings)


def test_check_refuses_a_cache_that_is_too_small_for_one_sequence(
    models: Path, tmp_path: Path
) -> None:
    refused = check(
        tmp_path,
        f"model: {{name: base, path: {models / 'Llama-3.1-8B'}}}\n"
        "engine: {dtype: bfloat16, max_model_len: 131072, max_num_seqs: 8}\n",
    )
    assert refused.exit_code == 2
    told = "cpu.kv_cache_gib, at least 16 for it, holds 1.0 GiB: set at most 8192"
    assert told in refused.stderr, refused.stderr
    assert refused.stdout == ""


def test_check_of_a_configuration_for_another_machine(tmp_path: Path) -> None:
    shown = check(tmp_path, "model: {name: base, path: /models/elsewhere}\n")
    assert shown.exit_code == 0, shown.stderr
    assert "memory: not estimated: /models/elsewhere is not on this machine" in shown.stderr


@pytest.mark.usefixtures("_cuda")
def test_a_machine_without_a_gpu_is_told(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_device() -> None:
        raise RuntimeError("Failed to infer device type")  # as vLLM's arguments do then

    monkeypatch.setattr(type(current_platform), "is_unspecified", lambda self: True)
    monkeypatch.setattr(arguments, "_parser", no_device)
    folder = models / "SmolLM2-135M"
    shown = check(
        tmp_path,
        f"model: {{name: base, path: {folder}}}\nencoders: [{{name: e, path: /models/e}}]\n",
    )
    assert shown.exit_code == 0, shown.stderr
    assert "memory: not estimated: this machine has no GPU" in shown.stderr
    with pytest.raises(ConfigurationError, match="engine: no GPU was found, and this build"):
        configured(folder)
