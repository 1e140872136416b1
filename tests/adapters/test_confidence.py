"""The confidence section of a manifest: read, written, bound by the digest, refused by name."""

import math
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import pytest

from service.adapters.confidence import ConfidenceMap, Measure
from service.adapters.formats import AdapterRefused
from service.adapters.manifest import GenerationManifest
from service.adapters.manifest_yaml import dump_manifest, load_manifest, parse_manifest
from service.generation.fold import Confidence
from tests.adapters.samples import describe, write_base
from tests.evaluation.calibration.samples import AGREEMENT, CONFIDENCE, generator


def read(tmp_path: Path, **fields: object) -> GenerationManifest:
    base = describe(write_base(tmp_path / "base"))
    manifest = load_manifest(generator(tmp_path / "writer", base, **fields).path)
    assert isinstance(manifest, GenerationManifest)
    return manifest


def test_the_measures_are_those_of_an_answer() -> None:
    assert get_args(Measure) == tuple(field.name for field in fields(Confidence))


def test_it_is_written_as_it_is_read_and_bound_by_the_digest(tmp_path: Path) -> None:
    manifest = read(tmp_path, confidence=CONFIDENCE | {"agreement": AGREEMENT})
    assert parse_manifest(dump_manifest(manifest).encode(), source="x") == manifest
    without = manifest.model_copy(update={"confidence": None})
    assert without.digest != manifest.digest


@pytest.mark.parametrize("logprob", [0.0, -0.25, -1.0, -5000.0])
def test_the_probability_is_the_logistic_of_the_score(logprob: float) -> None:
    found = ConfidenceMap(**CONFIDENCE).p_correct({"mean_token_logprob": logprob})
    score = 0.5 + 2 * logprob
    assert found == pytest.approx(1 / (1 + math.exp(-score)) if score > -700 else 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": {}}, "confidence.weights"),
        ({"weights": {"length": 1.0}}, "confidence.weights.length"),
        ({"weights": {"mean_entropy": "1"}}, "confidence.weights.mean_entropy"),
        (
            {"risk_control": {"alpha": 1.0, "least_abstention": 0.0}},
            "confidence.risk_control.alpha",
        ),
        ({"slope": 1.0}, "confidence.slope"),
        ({"weights": {"agreement": 1.0}}, "agreement has its place in agreement.weights"),
        (
            {"agreement": AGREEMENT | {"siblings": {"samples": 1, "temperature": 1.0}}},
            "confidence.agreement.siblings.samples",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    with pytest.raises(AdapterRefused, match=message):
        read(tmp_path, confidence=CONFIDENCE | change)
