"""The adapters of deploy/local with wrong weights and matching digests: the proof refuses each."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from service.adapters.manifest import CONFIG_FILE, WEIGHTS_FILE
from service.adapters.manifest_yaml import load_manifest, write_manifest
from service.adapters.proof import EFFECT_TOLERANCE, TOLERANCE
from service.common.files import file_digest
from tests.engine.conftest import ADAPTERS
from tests.served.server import Server

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


HALVES = (_first_layers, _no_attention)
"""Ways to load half an adapter, of which the adapters have one in turn."""


@pytest.mark.parametrize("name", NAMES)
def test_the_true_weights_are_far_within_the_tolerance(smollm2: Server, name: str) -> None:
    rows = httpx.get(f"{smollm2.url}/v1/adapters", timeout=300).json()["data"]
    (row,) = [row for row in rows if row["name"] == name]
    assert (row["state"], row["reason"]) == ("serving", None)
    match = row["proof"]["fingerprint"]
    assert match["distance"] < TOLERANCE / 2
    assert abs(match["effect"] - 1) < EFFECT_TOLERANCE / 2
    # The base passed half at packing; some of its answers are close.
    assert row["proof"]["base_passed"] < 0.75 * row["proof"]["total"]


@pytest.fixture(
    params=[
        "half-loaded",
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("swapped", "zeroed")),
    ]
)
def tampered(
    request: pytest.FixtureRequest, smollm2: Server, served_adapters: Path, tmp_path: Path
) -> Iterator[Server]:
    """A server whose folders of adapters have other weights under right digests for a test."""
    shutil.copytree(served_adapters, tmp_path, dirs_exist_ok=True)
    for name in NAMES:
        _tamper(served_adapters / name, name, request.param)
    yield smollm2
    shutil.copytree(tmp_path, served_adapters, dirs_exist_ok=True)


def test_other_weights_under_right_digests_are_refused_by_name(tampered: Server) -> None:
    answer = httpx.post(f"{tampered.ops}/adapters/reload", timeout=600)
    assert answer.status_code == 409
    for name in NAMES:
        assert (
            f"adapter {name}: adapter.yaml: fingerprint: expected log-probabilities within"
            in answer.text
        )


def _tamper(folder: Path, name: str, kind: str) -> None:
    from safetensors.torch import load_file, save_file

    place = NAMES.index(name)
    if kind == "swapped":
        other = ADAPTERS / NAMES[(place + 1) % len(NAMES)]
        for file in (CONFIG_FILE, WEIGHTS_FILE):
            shutil.copyfile(other / file, folder / file)
    else:
        change = _zeroed if kind == "zeroed" else HALVES[place % len(HALVES)]
        save_file(change(load_file(folder / WEIGHTS_FILE)), folder / WEIGHTS_FILE)
    manifest = load_manifest(folder)
    files = {file: file_digest(folder / file) for file in manifest.files}
    write_manifest(folder, manifest.model_copy(update={"files": files}))


def _kept(tensors: Tensors, keeps: Callable[[str], bool]) -> Tensors:
    return {name: each if keeps(name) else each * 0 for name, each in tensors.items()}


def _layer(name: str) -> int:
    return int(name.partition(".layers.")[2].partition(".")[0])
