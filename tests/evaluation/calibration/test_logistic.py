"""The fit against values that are known, and against scikit-learn."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from evaluation.calibration.logistic import fit_logistic, log_loss


def test_without_a_measure_that_changes_the_rate_is_told() -> None:
    right = np.array([True] * 8 + [False] * 2)
    fitted = fit_logistic(np.zeros((10, 1)), right)
    # The smoothed targets: eight times 9/10, twice 1/4.
    assert fitted.probs(np.zeros((1, 1)))[0] == pytest.approx((8 * 0.9 + 2 * 0.25) / 10)
    assert fitted.weights == [0]


def test_it_agrees_with_another_implementation_on_many_lines() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(20_000, 2)) * np.array([1.0, 30.0]) + np.array([5.0, -100.0])
    truth = 1 / (1 + np.exp(-(rows[:, 0] - 5 + 0.05 * (rows[:, 1] + 100) + 0.5)))
    right = draw.random(len(rows)) < truth
    fitted = fit_logistic(rows, right)
    theirs = LogisticRegression(C=1e6, max_iter=1000).fit(rows, right)
    assert fitted.weights == pytest.approx(theirs.coef_[0], rel=0.01)
    assert fitted.probs(rows) == pytest.approx(theirs.predict_proba(rows)[:, 1], abs=0.005)


def test_lines_that_a_measure_separates_give_finite_weights() -> None:
    rows = np.arange(20, dtype=np.float64)[:, None]
    fitted = fit_logistic(rows, rows[:, 0] >= 10)
    probs = fitted.probs(rows)
    assert np.isfinite(fitted.weights).all()
    assert (np.diff(probs) > 0).all()
    assert probs[9] < 0.5 < probs[10]


def test_log_loss_is_the_surprise_and_bounded() -> None:
    assert log_loss(np.array([0.5, 0.25]), np.array([True, False])) == pytest.approx(
        -(math.log(0.5) + math.log(0.75)) / 2
    )
    assert math.isfinite(log_loss(np.array([0.0]), np.array([True])))
