import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import log_softmax, softmax

from service.classification.calibration import (
    Array,
    Calibration,
    content_free_log_prior,
    log_sum_exp,
    normalise,
)

rows = arrays(np.float64, (4,), elements=st.floats(-50, 50))
tables = arrays(np.float64, (3, 4), elements=st.floats(-1000, 1000))
temperatures = st.floats(0.05, 20)


@given(tables)
def test_normalise_is_log_softmax(table: Array) -> None:
    assert normalise(table) == pytest.approx(log_softmax(table, axis=-1), abs=1e-9)


def test_an_impossible_label_stays_impossible() -> None:
    assert np.exp(normalise(np.array([0.0, -math.inf, 0.0]))).tolist() == [0.5, 0.0, 0.5]


@pytest.mark.parametrize("bad", [[math.nan, 0], [0, math.nan], [math.inf, 0], [-math.inf] * 2])
def test_what_is_no_distribution_is_refused(bad: list[float]) -> None:
    with pytest.raises(ValueError, match="log-weights"):
        normalise(np.array([[0.0, 0.0], bad]))


def test_log_sum_exp_does_not_overflow() -> None:
    assert log_sum_exp(np.array([1000.0, 1000.0]))[0] == pytest.approx(1000 + math.log(2))


@given(rows)
def test_nothing_to_calibrate_changes_nothing(row: Array) -> None:
    assert Calibration().apply(normalise(row)) == pytest.approx(normalise(row), abs=1e-9)


@given(rows, temperatures)
def test_temperature_is_the_softmax_of_scaled_logits(row: Array, temperature: float) -> None:
    calibrated = Calibration(temperature).apply(normalise(row))
    assert np.exp(calibrated) == pytest.approx(softmax(row / temperature), abs=1e-9)


@given(rows, temperatures)
def test_the_prior_itself_is_calibrated_to_uniform(row: Array, temperature: float) -> None:
    # What Zhao et al. choose W for: the content-free input must favour no label.
    prior = content_free_log_prior(normalise(row)[None])
    calibrated = Calibration(temperature, prior).apply(normalise(row))
    assert np.exp(calibrated) == pytest.approx(np.full(4, 0.25), abs=1e-9)


@given(rows, rows)
def test_the_order_of_labels_is_that_of_the_paper(row: Array, content_free: Array) -> None:
    p, p_cf = softmax(row), softmax(content_free)
    w = np.diag(1 / p_cf)
    calibrated = Calibration(log_prior=np.log(p_cf)).apply(np.log(p))
    assert np.exp(calibrated) == pytest.approx(w @ p / (w @ p).sum(), abs=1e-9)


def test_a_biased_model_is_corrected() -> None:
    # It says "positive" with 0.7 to nothing at all; 0.6 is evidence for "negative".
    calibration = Calibration(log_prior=np.log([0.7, 0.3]))
    positive, negative = np.exp(calibration.apply(np.log([0.6, 0.4])))
    assert positive == pytest.approx((0.6 / 0.7) / (0.6 / 0.7 + 0.4 / 0.3))
    assert negative > positive


def test_the_temperature_softens_what_the_prior_leaves() -> None:
    # (0.6 / 0.2) : (0.4 / 0.8) is 6 : 1, whose square root is the odds at temperature 2.
    calibrated = Calibration(2.0, np.log([0.2, 0.8])).apply(np.log([0.6, 0.4]))
    assert calibrated[0] - calibrated[1] == pytest.approx(math.log(6) / 2)


def test_the_prior_is_the_mean_over_content_free_inputs() -> None:
    prior = content_free_log_prior(np.log([[0.9, 0.1], [0.6, 0.4], [0.3, 0.7]]))
    assert np.exp(prior) == pytest.approx([0.6, 0.4])


def test_independent_questions_are_calibrated_row_by_row() -> None:
    yes_no = np.log([[0.8, 0.2], [0.5, 0.5]])
    calibrated = Calibration(log_prior=yes_no).apply(yes_no)
    assert np.exp(calibrated) == pytest.approx(np.full((2, 2), 0.5))


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_refuses_a_temperature_that_scales_nothing(temperature: float) -> None:
    with pytest.raises(ValueError, match="temperature must be finite and above 0"):
        Calibration(temperature)


def test_refuses_a_prior_of_zero() -> None:
    with pytest.raises(ValueError, match="log_prior must be finite"):
        Calibration(log_prior=np.array([0.0, -math.inf]))
