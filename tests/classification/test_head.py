"""Classification by a head: its values, calibrated as every classifier's."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from service.classification.encoder import HeadClassifier
from service.classification.result import classify_one
from tests.adapters.packed import LABELS, ReferenceEncoder, packed_head, values_of

TEXT = "the law passes"


async def test_probabilities_are_tempered_and_the_set_is_conformal(tmp_path: Path) -> None:
    await packed_head(tmp_path / "topics")
    answer = await classify_one(
        HeadClassifier(ReferenceEncoder(tmp_path / "topics")), TEXT, asyncio.Semaphore(1)
    )
    (values,) = await values_of(tmp_path / "topics", [TEXT])
    expected = np.exp(np.array(values) / 2.0)
    expected /= expected.sum()
    assert answer.probs == pytest.approx(expected)
    applies = {name for name, prob in zip(LABELS, expected, strict=True) if prob >= 0.25}
    assert set(answer.label_set or ()) == applies


async def test_labels_that_apply_by_themselves_are_tempered_one_by_one(tmp_path: Path) -> None:
    thresholds = [0.5, 0.4, 1.0]
    calibration = {"temperature": 2.0, "conformal": {"coverage": 0.9, "threshold": thresholds}}
    await packed_head(tmp_path / "topics", multi_label=True, calibration=calibration)
    answer = await classify_one(
        HeadClassifier(ReferenceEncoder(tmp_path / "topics")), TEXT, asyncio.Semaphore(1)
    )
    (values,) = await values_of(tmp_path / "topics", [TEXT])
    assert answer.probs == pytest.approx(1 / (1 + np.exp(-np.array(values) / 2.0)))
    least = dict(zip(LABELS, [0.5, 0.6, 0.0], strict=True))
    probs = dict(zip(LABELS, answer.probs, strict=True))
    held = {name for name, prob in probs.items() if prob >= least[name]}
    assert set(answer.conformal_set or ()) == held
