"""Proof of heads on transformers in the engine's place: right ones pass, others are refused."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from service.adapters.heads import HeadProof, HeadRefused, prove_head
from tests.adapters.packed import ReferenceEncoder, packed_head, repacked


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    await packed_head(tmp_path / "topics")
    return tmp_path / "topics"


async def proven(folder: Path) -> HeadProof | None:
    return await prove_head(ReferenceEncoder(folder), folder, 30)


def moved(folder: Path, change: torch.Tensor | float) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["classifier.weight"] = (weights["classifier.weight"] + change).contiguous()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    repacked(folder)


async def test_a_packed_head_proves_itself(folder: Path) -> None:
    proof = await proven(folder)
    assert proof is not None
    assert proof.distance < 1e-3
    assert "5 of 5 golden examples right" in str(proof)


async def test_several_labels_prove_themselves(tmp_path: Path) -> None:
    await packed_head(tmp_path / "topics", multi_label=True)
    assert await proven(tmp_path / "topics") is not None


async def test_an_encoder_without_a_manifest_has_nothing_to_prove(folder: Path) -> None:
    (folder / "head.json").unlink()
    assert await proven(folder) is None


async def test_a_swapped_head_fails_its_golden_examples(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    moved(folder, weights["classifier.weight"].roll(1, 0) - weights["classifier.weight"])
    with pytest.raises(HeadRefused, match=r"head topics: golden.jsonl: proof: .* of 5 right"):
        await proven(folder)


async def test_weights_that_answer_alike_are_refused_by_their_values(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    moved(folder, weights["classifier.weight"] * 0.5)
    with pytest.raises(HeadRefused, match=r"head.json: proof: expected values within 0.1"):
        await proven(folder)


async def test_values_that_tell_no_examples_apart_prove_nothing(tmp_path: Path) -> None:
    await packed_head(tmp_path / "topics", fingerprint=[[1.0, 0.0, 0.0]] * 3)
    with pytest.raises(HeadRefused, match="tells them apart too little"):
        await proven(tmp_path / "topics")
