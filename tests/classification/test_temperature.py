import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import make_classification
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression

from service.classification.calibration import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    Array,
    Calibration,
    fit_temperature,
    normalise,
)

Truth = np.typing.NDArray[np.intp]


def sharpened(seed: int, temperature: float, size: int = 400) -> tuple[Array, Truth]:
    """Labels drawn from a model's distribution, and that model made too sure by `temperature`."""
    random = np.random.default_rng(seed)
    logits = random.normal(scale=2, size=(size, 5))
    truth = np.array([random.choice(5, p=np.exp(row)) for row in normalise(logits)])
    return normalise(logits * temperature), truth


@given(st.integers(0, 1000), st.floats(0.3, 5))
@settings(deadline=None, max_examples=30)
def test_finds_the_optimum_that_scipy_finds(seed: int, temperature: float) -> None:
    log_probs, truth = sharpened(seed, temperature)

    def loss(log_temperature: float) -> float:
        scaled = Calibration(math.exp(log_temperature)).apply(log_probs)
        right = scaled[range(len(truth)), truth]
        others = np.where(np.eye(5)[truth], -np.inf, scaled).max(axis=1)
        share = 1 / (len(truth) + 2)
        return float(-np.mean((1 - share) * right + share * others))

    best = minimize_scalar(loss, bounds=(-3, 3), method="bounded", options={"xatol": 1e-10})
    assert math.log(fit_temperature(log_probs, truth)) == pytest.approx(best.x, abs=1e-6)


@pytest.mark.filterwarnings("ignore:Since FrozenEstimator does not appear to accept")
def test_gives_the_probabilities_that_scikit_learn_gives() -> None:
    features, truth = make_classification(
        800, n_informative=6, n_classes=3, flip_y=0.2, random_state=0
    )
    model = LogisticRegression(C=1e6, max_iter=1000).fit(features[:100], truth[:100])
    log_probs = normalise(model.decision_function(features[100:]))
    temperature = fit_temperature(log_probs, truth[100:])
    others = np.where(np.eye(3)[truth[100:]], -np.inf, log_probs).argmax(axis=1)
    peer = CalibratedClassifierCV(FrozenEstimator(model), method="temperature")
    peer.fit(
        np.vstack([features[100:]] * 2),
        np.hstack([truth[100:], others]),
        sample_weight=np.repeat([701.0, 1.0], 700),
    )
    assert temperature > 1.1  # fitted on 100 rows, the model is too sure
    assert np.exp(Calibration(temperature).apply(log_probs)) == pytest.approx(
        peer.predict_proba(features[100:]), abs=1e-6
    )


def test_recovers_the_temperature_by_which_a_model_is_too_sure() -> None:
    assert fit_temperature(*sharpened(1, 2.5, size=20_000)) == pytest.approx(2.5, rel=0.03)


@pytest.mark.parametrize("size", [2, 12, 100])
def test_examples_that_are_all_right_promise_no_more_than_their_number_tells(size: int) -> None:
    log_probs = normalise(np.tile([[6.0, -1.0, 0.0], [1.0, 9.0, 0.0]], (size // 2, 1)))
    temperature = fit_temperature(log_probs, np.tile([0, 1], size // 2))
    confidence = np.exp(Calibration(temperature).apply(log_probs)).max(axis=1).mean()
    assert confidence == pytest.approx((size + 1) / (size + 2), abs=0.03)


def test_bounds_answer_where_there_is_no_optimum() -> None:
    close = normalise(np.array([[0.01, 0.0], [0.0, 0.01]]))
    assert fit_temperature(close, np.array([0, 1])) == pytest.approx(MIN_TEMPERATURE)
    assert fit_temperature(close, np.array([1, 0])) == pytest.approx(MAX_TEMPERATURE)


@pytest.mark.parametrize("log_probs", [np.empty((0, 2)), np.array([[0.0, -math.inf]])])
def test_refuses_what_has_no_likelihood(log_probs: Array) -> None:
    with pytest.raises(ValueError, match="at least one example and finite"):
        fit_temperature(log_probs, np.zeros(len(log_probs), dtype=np.intp))
