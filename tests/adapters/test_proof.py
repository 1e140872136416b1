"""The proof on the fake engine: the fingerprint, and the comparison with the base."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.adapters.formats import AdapterRefused
from service.adapters.manifest import Manifest
from service.adapters.manifest_yaml import load_manifest
from service.adapters.proof import (
    TOLERANCE,
    FingerprintMatch,
    Proof,
    distance,
    effect,
    prove,
)
from service.adapters.verify import require_provable, verify
from service.models.base_model import ServedBase
from tests.adapters.proven import INPUTS, best_label, failing, proven, served_base
from tests.adapters.samples import AdapterFolder
from tests.fake_engines import fake_engine
from training.offline import OfflineModel


@pytest.fixture
def served(base_folder: Path) -> ServedBase:
    return served_base(base_folder)


async def shown(folder: Path) -> Proof | None:
    """The proof of a folder on the fake engine."""
    engine, _ = fake_engine()
    manifest = load_manifest(folder)
    async with OfflineModel(engine, 30).loaded(manifest.name, folder, manifest.digest) as adapter:
        return await prove(engine, adapter, manifest, 30)


async def test_the_packed_weights_are_proven(tmp_path: Path, served: ServedBase) -> None:
    adapter = await proven(tmp_path / "a", served)
    proof = await shown(adapter.path)
    assert proof is not None
    assert (proof.result.passed, proof.base.passed) == (len(INPUTS), 0)
    assert proof.fingerprint is not None
    assert proof.fingerprint.distance < 0.001
    assert proof.fingerprint.effect == pytest.approx(1, abs=0.001)


async def test_other_weights_are_refused_though_every_text_is_right(
    tmp_path: Path, served: ServedBase
) -> None:
    adapter = await proven(tmp_path / "a", served)
    adapter.tensors = {name: each * np.float32(0.5) for name, each in adapter.tensors.items()}
    adapter.save()
    adapter.golden = [
        {"input": str(text["input"]), "label": await best_label(adapter.path, str(text["input"]))}
        for text in adapter.golden
    ]
    adapter.save()
    with pytest.raises(AdapterRefused, match=r"sentiment: adapter\.yaml: fingerprint: expected"):
        await shown(adapter.path)


async def test_a_base_that_moved_is_named(tmp_path: Path, served: ServedBase) -> None:
    adapter = await proven(tmp_path / "a", served)
    for read in adapter.manifest["fingerprint"]:
        read["base"] = [value - 2 * TOLERANCE for value in read["base"]]
    adapter.write_manifest()
    with pytest.raises(AdapterRefused, match=r"fingerprint of the base: .* computes the base"):
        await shown(adapter.path)


async def test_a_fingerprint_that_is_the_base_s_own_is_refused(
    tmp_path: Path, served: ServedBase
) -> None:
    adapter = await proven(tmp_path / "a", served)
    for read in adapter.manifest["fingerprint"]:
        read["adapter"] = list(read["base"])
    adapter.write_manifest()
    with pytest.raises(AdapterRefused, match="cannot tell the adapter from its base"):
        await shown(adapter.path)


async def test_examples_that_the_base_passes_as_well_prove_nothing(
    tmp_path: Path, served: ServedBase
) -> None:
    adapter = await proven(tmp_path / "a", served)
    adapter.golden = []
    for number in range(100):
        label = await best_label(adapter.path, str(number))
        if label == await best_label(adapter.path, str(number), of_base=True):
            adapter.golden.append({"input": str(number), "label": label})
    del adapter.manifest["fingerprint"]
    adapter.save()
    total = len(adapter.golden)
    with pytest.raises(
        AdapterRefused, match=rf"golden\.jsonl: .*the base passes {total} of {total} as well"
    ):
        await shown(adapter.path)


@pytest.mark.parametrize("field", ["golden", "fingerprint"])
async def test_a_manifest_that_lacks_a_part_cannot_be_proven(
    tmp_path: Path, served: ServedBase, field: str
) -> None:
    adapter = await proven(tmp_path / "a", served)
    require_provable(load_manifest(adapter.path))
    del adapter.manifest["fingerprint"]
    if field == "golden":
        del adapter.manifest["golden"]
    adapter.write_manifest()
    with pytest.raises(AdapterRefused, match=f"field {field}: expected it, because require_proof"):
        require_provable(load_manifest(adapter.path))


def plain(adapter: AdapterFolder) -> dict[str, Any]:
    """The folder as training leaves it, and the draft of its manifest."""
    filled = ("schema", "base_model", "files", "fingerprint")
    (adapter.path / "adapter.yaml").unlink()
    return {key: value for key, value in adapter.manifest.items() if key not in filled}


async def packed(adapter: AdapterFolder, base: ServedBase, draft: dict[str, Any]) -> Manifest:
    engine, _ = fake_engine()
    verified = await OfflineModel(engine, 30).pack(adapter.path, base, draft)
    assert await engine.resident_adapters() == frozenset()
    return verified.manifest


async def test_packing_on_an_engine_takes_the_fingerprint(
    tmp_path: Path, served: ServedBase
) -> None:
    adapter = await proven(tmp_path / "a", served)
    before = load_manifest(adapter.path)
    manifest = await packed(adapter, served, plain(adapter))
    assert manifest == before == verify(adapter.path, served).manifest
    assert manifest.fingerprint is not None
    assert await shown(adapter.path) is not None


async def test_packing_refuses_what_would_not_be_proven(tmp_path: Path, served: ServedBase) -> None:
    adapter = await proven(tmp_path / "a", served)
    draft = plain(adapter)
    failing(adapter)
    (adapter.path / "adapter.yaml").unlink()
    with pytest.raises(AdapterRefused, match="0 of 4 right"):
        await packed(adapter, served, draft)
    del draft["golden"]
    with pytest.raises(AdapterRefused, match="cannot be proven: expected golden examples"):
        await packed(adapter, served, draft)
    assert not (adapter.path / "adapter.yaml").exists()


def test_distance_is_the_root_mean_square() -> None:
    assert distance([[0.0, 3.0], [0.0]], [[0.0, 0.0], [0.0]]) == pytest.approx(3**0.5)


def test_the_effect_is_the_part_that_is_there() -> None:
    base, packed = [[-1.0, -2.0], [-3.0]], [[-0.5, -4.0], [-7.0]]
    half = [[-0.75, -3.0], [-5.0]]
    shown = [effect(found, base, packed, base) for found in (packed, half, base)]
    assert shown == pytest.approx([1, 0.5, 0])


@pytest.mark.parametrize(
    ("distance_", "effect_", "holds"),
    [(0.16, 0.99, True), (0.51, 1.0, False), (0.1, 0.94, False), (0.1, 1.06, False)],
)
def test_near_values_and_a_whole_effect_are_both_needed(
    distance_: float, effect_: float, holds: bool
) -> None:
    assert FingerprintMatch(16, distance_, effect_).holds is holds
