"""The adapters of deploy/local with wrong weights and matching digests: the proof refuses each."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.adapters.manifest import CONFIG_FILE, WEIGHTS_FILE
from service.adapters.manifest_yaml import load_manifest
from service.adapters.pack import write_manifest
from service.files import file_digest
from service.proving.fingerprint import EFFECT_TOLERANCE, TOLERANCE
from tests.engine.conftest import ADAPTERS
from tools.served.configuration import ENGINE
from tools.served.server import PATIENT, running_server

NAMES = [each.name for each in sorted(ADAPTERS.iterdir())]
Tensors = dict[str, Any]


def _zeroed(tensors: Tensors) -> Tensors:
    """Every A is zero; a folder whose every B is zero is refused before it is loaded."""
    return _kept(tensors, lambda name: "lora_A" not in name)


def _first_layers(tensors: Tensors) -> Tensors:
    """Only the first half of the adapted layers is there."""
    layers = sorted({_layer(name) for name in tensors})
    kept = layers[: len(layers) // 2]
    return _kept(tensors, lambda name: _layer(name) in kept)


def _no_attention(tensors: Tensors) -> Tensors:
    """Only the feed-forward modules are there."""
    return _kept(tensors, lambda name: "self_attn" not in name)


CHANGES: dict[str, Callable[[Tensors], Tensors]] = {
    "zeroed": _zeroed,
    "first-layers": _first_layers,
    "no-attention": _no_attention,
}
KINDS = ["swapped", *CHANGES]


@pytest.fixture(scope="module")
def listed(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Every demo adapter and its tampered copies, by name, as one server lists them."""
    root = tmp_path_factory.mktemp("tampered")
    sources = [{"source": str((ADAPTERS / name).resolve())} for name in NAMES]
    for name in NAMES:
        for kind in KINDS:
            _tamper(root / f"{name}-{kind}", name, kind)
            sources.append({"source": str(root / f"{name}-{kind}"), "name": f"{name}-{kind}"})
    config = PATIENT | {
        "model": {"name": "smollm2-135m-instruct", "path": str(smollm2_folder)},
        "engine": ENGINE | {"max_lora_rank": 8},
        "adapters": sources,
        "adapter_cache": {"path": str(root / "cache")},
        "adapters_on_failure": "quarantine",
        "require_proof": True,
    }
    with running_server(tmp_path_factory.mktemp("server"), config) as server:
        rows = httpx.get(f"{server.url}/v1/adapters", timeout=30).json()["data"]
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("name", NAMES)
def test_the_true_weights_are_far_within_the_tolerance(listed: dict[str, Any], name: str) -> None:
    row = listed[name]
    assert (row["state"], row["reason"]) == ("serving", None)
    match = row["proof"]["fingerprint"]
    assert match["distance"] < TOLERANCE / 2
    assert abs(match["effect"] - 1) < EFFECT_TOLERANCE / 2
    # The base passed half at packing; some of its answers are close.
    assert row["proof"]["base_passed"] < 0.75 * row["proof"]["total"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMES)
def test_other_weights_under_right_digests_are_refused_by_name(
    listed: dict[str, Any], name: str, kind: str
) -> None:
    row = listed[f"{name}-{kind}"]
    assert row["state"] == "quarantined"
    assert (
        f"adapter {name}: adapter.yaml: fingerprint: expected log-probabilities within"
        in (row["reason"])
    )


def _tamper(folder: Path, name: str, kind: str) -> None:
    from safetensors.torch import load_file, save_file

    shutil.copytree(ADAPTERS / name, folder)
    if kind == "swapped":
        other = ADAPTERS / NAMES[(NAMES.index(name) + 1) % len(NAMES)]
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copyfile(other / file, folder / file)
    else:
        save_file(CHANGES[kind](load_file(folder / WEIGHTS_FILE)), folder / WEIGHTS_FILE)
    manifest = load_manifest(folder)
    files = {file: file_digest(folder / file) for file in manifest.files}
    write_manifest(folder, manifest.model_copy(update={"files": files}))


def _kept(tensors: Tensors, keeps: Callable[[str], bool]) -> Tensors:
    return {name: each if keeps(name) else each * 0 for name, each in tensors.items()}


def _layer(name: str) -> int:
    return int(name.partition(".layers.")[2].partition(".")[0])
