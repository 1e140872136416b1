import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.calibration import calibration_curve

from service.classification.calibration import Array
from service.classification.reliability import (
    ReliabilityBar,
    expected_calibration_error,
    reliability_bins,
)

Outcomes = np.typing.NDArray[np.bool_]
sizes = st.shared(st.integers(1, 60), key="size")
confidences = arrays(np.float64, sizes, elements=st.floats(0, 1))
outcomes = arrays(np.bool_, sizes)


@given(confidences, outcomes, st.integers(1, 20))
def test_bins_are_those_of_scikit_learn(confidences: Array, correct: Outcomes, bins: int) -> None:
    # It wants both outcomes: one example of each, alike in both diagrams, is added.
    confidences = np.append(confidences, [0.5, 0.5])
    correct = np.append(correct, [True, False])
    accuracy, confidence = calibration_curve(correct, confidences, n_bins=bins)
    diagram = reliability_bins(confidences, correct, bins)
    assert [each.accuracy for each in diagram] == pytest.approx(accuracy)
    assert [each.confidence for each in diagram] == pytest.approx(confidence)


@given(confidences, outcomes)
def test_every_example_is_in_one_bin(confidences: Array, correct: Outcomes) -> None:
    diagram = reliability_bins(confidences, correct)
    assert sum(each.count for each in diagram) == len(confidences)
    for each in diagram:
        assert each.lower - 1e-12 <= each.confidence <= each.upper + 1e-12


@given(confidences, outcomes)
def test_one_bin_compares_mean_confidence_with_accuracy(
    confidences: Array, correct: Outcomes
) -> None:
    error = expected_calibration_error(confidences, correct, bins=1)
    assert error == pytest.approx(abs(confidences.mean() - correct.mean()), abs=1e-12)


def test_a_worked_example() -> None:
    confidences = np.array([0.95, 0.95, 0.85, 0.65, 0.65])
    correct = np.array([True, False, True, True, False])
    low, middle, high = reliability_bins(confidences, correct, bins=10)
    assert (low.count, middle.count, high.count) == (2, 1, 2)
    assert (low.confidence, low.accuracy) == pytest.approx((0.65, 0.5))
    assert (high.lower, high.upper) == pytest.approx((0.9, 1))
    # 2/5 * |.5 - .65| + 1/5 * |1 - .85| + 2/5 * |.5 - .95|
    assert expected_calibration_error(confidences, correct, bins=10) == pytest.approx(0.27)


def test_an_edge_belongs_to_the_bin_below_and_zero_to_the_first() -> None:
    diagram = reliability_bins(np.array([0.0, 0.5, 1.0]), np.array([False, True, True]), bins=2)
    assert diagram == (
        ReliabilityBar(lower=0, upper=0.5, count=2, confidence=0.25, accuracy=0.5),
        ReliabilityBar(lower=0.5, upper=1, count=1, confidence=1, accuracy=1),
    )


def test_a_model_as_right_as_it_is_sure_has_no_error() -> None:
    correct = np.arange(100) % 10 < 8
    assert expected_calibration_error(np.full(100, 0.8), correct) == pytest.approx(0)


@pytest.mark.parametrize(
    ("confidences", "correct", "message"),
    [
        ([], [], "0 confidences for 0 outcomes"),
        ([0.5], [True, False], "1 confidences for 2 outcomes"),
        ([1.5], [True], "must be probabilities"),
        ([math.nan], [True], "must be probabilities"),
    ],
)
def test_refuses_what_has_no_diagram(
    confidences: list[float], correct: list[bool], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        reliability_bins(np.array(confidences), np.array(correct, dtype=np.bool_))
