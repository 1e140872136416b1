"""Figures of labels, against values computed by hand and by scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from evaluation.choices import (
    Chosen,
    Reading,
    bias_figures,
    choice_figures,
    classification_figures,
    macro_f1,
    robustness_figures,
)
from service.classification.reliability import area, risk_coverage


def reading(yes: float, *, abstained: bool = False) -> Reading:
    return Reading({"yes": yes, "no": 1 - yes}, abstained)


FOUR = Chosen(
    [reading(0.9), reading(0.8), reading(0.3, abstained=True), reading(0.4)],
    ["yes", "no", "no", "yes"],
)


def test_figures_by_hand() -> None:
    found = {name: each.value for name, each in classification_figures(FOUR).items()}
    assert found["accuracy"] == 0.5
    # Right: 0.9 and 0.7; wrong: 0.8 and 0.6; each alone in its bin.
    assert found["ece"] == pytest.approx((0.1 + 0.8 + 0.3 + 0.6) / 4)
    assert found["brier"] == pytest.approx(2 * (0.01 + 0.64 + 0.09 + 0.36) / 4)
    assert found["abstention"] == 0.25
    assert found["macro_f1"] == 0.5
    # Errors by falling confidence: right, wrong, right, wrong.
    assert found["aurc"] == pytest.approx((0 + 1 / 2 + 1 / 3 + 2 / 4) / 4)
    assert choice_figures(FOUR).keys() == {"accuracy", "ece", "brier", "aurc"}


def test_every_interval_holds_its_value() -> None:
    for name, each in classification_figures(FOUR).items():
        assert each.lines == 4
        assert each.low <= each.high, name


def test_macro_f1_is_that_of_scikit_learn() -> None:
    draw = np.random.default_rng(3)
    said, truth = draw.integers(0, 7, 150), draw.integers(0, 6, 150)
    ours = macro_f1(said, truth, np.arange(150))
    assert ours == pytest.approx(f1_score(truth, said, average="macro", zero_division=0))


def test_answers_of_equal_confidence_share_their_errors() -> None:
    right = np.array([True, False, True, False])
    for order in ([0, 1, 2, 3], [3, 1, 2, 0]):
        coverage, risk = risk_coverage(np.full(4, 0.7), right[order])
        assert risk == pytest.approx([0.5] * 4)
    assert coverage.tolist() == [0.25, 0.5, 0.75, 1]


def test_a_confidence_that_knows_its_errors_has_the_smaller_area() -> None:
    right = np.array([True] * 6 + [False] * 2)
    falling = np.linspace(0.9, 0.2, 8)
    assert area(falling, right) == pytest.approx((1 / 7 + 2 / 8) / 8)
    assert area(falling[::-1], right) > area(falling, right)


def test_a_gap_is_paired_within_templates() -> None:
    women = [[reading(0.2), reading(0.4)], [reading(0.6), reading(0.6)]]
    men = [[reading(0.8), reading(0.6)], [reading(0.7), reading(0.7)]]
    found = bias_figures(women, men, "yes")
    assert found["gap"].value == pytest.approx((-0.4 - 0.1) / 2)
    assert found["gap"].low == pytest.approx(-0.4)
    assert found["gap"].high == pytest.approx(-0.1)
    assert found["flips"].value == 0.5
    assert found["gap"].lines == 2


def test_a_loss_is_paired_by_line() -> None:
    noisy = Chosen([reading(0.1), reading(0.1), reading(0.3), reading(0.9)], FOUR.truth)
    found = robustness_figures(FOUR, {"case": noisy})
    assert found["case_loss"].value == pytest.approx((1 - 1 + 0 - 1) / 4)
