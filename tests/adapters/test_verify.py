"""Heads that are refused from their files alone."""

import json
from pathlib import Path
from typing import Any

import pytest

from service.adapters.heads import HeadManifest, HeadRefused, load_manifest, verify_head
from service.engine.pooling import ConformalSets
from service.errors import ConfigurationError
from service.models.encoder import read_encoder
from tests.adapters.packed import packed_head, repacked


@pytest.fixture
async def folder(tmp_path: Path) -> Path:
    await packed_head(tmp_path / "topics")
    return tmp_path / "topics"


def verified(folder: Path) -> HeadManifest | None:
    return verify_head(folder, read_encoder(folder))


def changed(folder: Path, **fields: Any) -> None:
    document = json.loads((folder / "head.json").read_text()) | fields
    (folder / "head.json").write_text(json.dumps(document))
    repacked(folder)


def test_a_packed_head_passes_and_reads_back_as_it_was_written(folder: Path) -> None:
    head = verified(folder)
    assert head is not None
    assert head.conformal == ConformalSets.fitted(0.9, 0.25)
    head.write(folder)
    assert load_manifest(folder) == head


def test_an_encoder_without_a_manifest_has_no_head_of_ours(folder: Path) -> None:
    (folder / "head.json").unlink()
    assert verified(folder) is None


@pytest.mark.parametrize("name", ["model.safetensors", "head.json", "golden.jsonl", "vocab.txt"])
def test_a_file_that_is_not_the_packed_one_is_named(folder: Path, name: str) -> None:
    model = read_encoder(folder)
    with (folder / name).open("ab") as file:
        file.write(b" ")
    with pytest.raises(ConfigurationError, match=f"topics: {name}: (digest differs|is not listed)"):
        verify_head(folder, model)


def test_digests_must_be_there(folder: Path) -> None:
    (folder / "model-files.json").unlink()
    with pytest.raises(HeadRefused, match=r"head topics: model-files.json: is missing"):
        verified(folder)


def test_another_models_head_is_refused_by_its_labels(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "politics", "1": "sports", "2": "weather"}
    (folder / "config.json").write_text(json.dumps(config))
    repacked(folder)
    with pytest.raises(HeadRefused, match=r"not those of config\.json: expected politics"):
        verified(folder)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"version": "one"}, "field version"),
        ({"tempreature": 2}, "field tempreature"),
        ({"labels": ["sports"]}, "field labels"),
        ({"calibration": {"prior": [0.2, 0.3, 0.5]}}, "calibration.prior: must be left out"),
        ({"multi_label": True}, r"conformal\.threshold: one value a label with multi_label"),
        ({"fingerprint": [[0.5, 0.25]]}, "fingerprint: 3 values in each row, found 2"),
        ({"fingerprint": [[1.0, 2.0, 3.0]] * 6}, "a golden example for each row"),
        ({"golden": {"file": "other.jsonl", "min_accuracy": 0.9}}, "a file of model-files.json"),
    ],
)
def test_a_manifest_that_cannot_hold_is_refused_with_its_field(
    folder: Path, fields: dict[str, Any], says: str
) -> None:
    changed(folder, **fields)
    with pytest.raises(HeadRefused, match=says):
        verified(folder)


def test_golden_examples_have_the_heads_labels(folder: Path) -> None:
    (folder / "golden.jsonl").write_text('{"input": "a vote", "label": "votes"}\n' * 5)
    repacked(folder)
    with pytest.raises(HeadRefused, match=r"golden.jsonl: line 1: expected one of sports"):
        verified(folder)
