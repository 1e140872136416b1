"""Figures: computed by hand on a few lines, and calibration's promises on many."""

import numpy as np
import pytest

from service.adapters.manifest import CalibrationRecord, Conformal
from service.classification import calibration as calibration_of_serving
from service.classification.conformal import label_sets
from training.figures import (
    classification_figures,
    fit_calibration,
    fit_conformal,
    fit_conformal_by_label,
    generation_figures,
    multi_label_figures,
)

PLAIN = CalibrationRecord(conformal=Conformal(coverage=0.5, threshold=0.4))


def test_single_label_figures_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.7, 0.3], [0.55, 0.45], [0.2, 0.8]])
    figures = classification_figures(("a", "b"), np.log(probs), np.array([0, 0, 1, 1]), [PLAIN])
    assert (figures.lines, figures.tested_labels, figures.accuracy) == (4, 2, 0.75)
    assert figures.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)
    assert figures.confusions == (("b", "a", 1),)
    assert figures.ece == pytest.approx(figures.ece_before)
    (conformal,) = figures.conformal
    # Labels of at least 0.6: the third line has none.
    assert (conformal.measured, conformal.mean_size, conformal.empty) == (0.75, 0.75, 0.25)


def test_multi_label_figures_by_hand() -> None:
    yes = np.array([[0.9, 0.2], [0.4, 0.3]])
    truth = np.array([[0, 1], [0, 1]])
    figures = multi_label_figures(
        ("a", "b"), np.log(np.stack([yes, 1 - yes], -1)), truth, CalibrationRecord()
    )
    assert figures.accuracy == 0.5
    assert figures.tested_labels == 1
    assert figures.confusions == (("a", "no", 1),)


def test_the_figures_of_several_labels_are_of_those_that_apply() -> None:
    yes = np.array([[0.9, 0.2], [0.4, 0.3], [0.1, 0.8]])
    truth = np.array([[0, 1], [0, 0], [1, 1]])
    conformal = Conformal(coverage=0.5, threshold=(0.5, 0.8))
    calibration = CalibrationRecord(conformal=conformal)
    rows = np.log(np.stack([yes, 1 - yes], -1))
    (found,) = multi_label_figures(("a", "b"), rows, truth, calibration).conformal
    # The least probabilities are 0.5 and 0.2: the sets hold a and b, b, and b.
    assert [found.coverage, found.measured] == pytest.approx([0.5, 2 / 3])
    assert [found.mean_size, found.empty] == pytest.approx([4 / 3, 0])


def test_the_label_that_sets_its_own_threshold_belongs_to_the_set() -> None:
    draw = np.random.default_rng(1)
    yes = draw.uniform(0.01, 0.99, size=(400, 2))
    truth = (draw.random((400, 2)) < 0.5).astype(np.intp)
    rows = np.log(np.stack([yes, 1 - yes], -1))
    calibration = fit_conformal_by_label(CalibrationRecord(), rows, truth, 0.9)
    (found,) = multi_label_figures(("a", "b"), rows, truth, calibration).conformal
    applies = truth == 0
    held = sum(np.ceil((count + 1) * 0.9) for count in applies.sum(axis=0))
    assert found.measured == pytest.approx(held / applies.sum())


def test_generation_figures_by_hand() -> None:
    expected, answers = ['{"a": 1}', "no json"], ['{"a": 1} ', "none"]
    figures = generation_figures(expected, answers, [True, False], [True, False])
    assert (figures.lines, figures.exact_match, figures.valid_json) == (2, 0.5, 0.5)
    assert 0 < figures.bleu <= 100
    sentence = ["le chat est sur la table"]
    perfect = generation_figures(sentence, sentence, [True], None)
    assert perfect.valid_json is None
    assert [perfect.chrf, perfect.bleu] == pytest.approx([100, 100])


@pytest.mark.parametrize("coverage", [0.8, 0.9, 0.95])
def test_calibration_keeps_its_promise_on_other_lines(coverage: float) -> None:
    draw = np.random.default_rng(5)
    count = 20_000
    true = np.exp(draw.normal(size=(count, 4)) * 1.5)
    true /= true.sum(axis=1, keepdims=True)
    truth = np.array([draw.choice(4, p=row) for row in true])
    # The model is three times too sure of itself.
    logits = 3 * np.log(true)
    log_probs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    half = count // 2
    quarter = half // 2
    tempered = fit_calibration(log_probs[:quarter], truth[:quarter])
    calibration = fit_conformal(tempered, log_probs[quarter:half], truth[quarter:half], coverage)
    assert calibration.temperature == pytest.approx(3, rel=0.1)
    figures = classification_figures(tuple("abcd"), log_probs[half:], truth[half:], [calibration])
    assert figures.conformal[0].measured == pytest.approx(coverage, abs=0.015)
    assert figures.ece < 0.02 < figures.ece_before


def test_the_label_that_sets_the_threshold_belongs_to_its_set() -> None:
    draw = np.random.default_rng(1)
    for _ in range(200):
        probs = draw.dirichlet([1, 1], size=40)
        truth = np.zeros(40, dtype=np.intp)
        calibration = fit_conformal(CalibrationRecord(), np.log(probs), truth, 0.9)
        assert calibration.conformal is not None
        same = np.exp(calibration_of_serving.Calibration().apply(np.log(probs)))
        kept = label_sets(same[:, 0], calibration.conformal.least)
        # ceil(41 * 0.9) of the 40 true labels.
        assert kept.sum() == 37
