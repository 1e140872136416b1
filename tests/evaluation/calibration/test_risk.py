"""The threshold by hand, and its promise on many draws."""

import numpy as np
import pytest

from evaluation.calibration.risk import least_abstention, risk_threshold


def test_the_threshold_leaves_out_as_many_wrong_answers_as_it_must() -> None:
    probs = np.arange(1, 20) / 20  # n + 1 = 20
    right = np.ones(19, dtype=bool)
    right[[3, 7, 11]] = False  # 0.2, 0.4, 0.6
    assert risk_threshold(probs, right, 0.2) == 0.0  # (3 + 1) / 20
    assert risk_threshold(probs, right, 0.15) == 0.25
    assert risk_threshold(probs, right, 0.05) == 0.65
    assert risk_threshold(probs, right, 0.04) is None


def test_the_promise_holds_on_average() -> None:
    draw, alpha, risks = np.random.default_rng(1), 0.1, []
    for _ in range(500):
        probs = draw.random(201)
        right = draw.random(201) < probs
        threshold = risk_threshold(probs[:200], right[:200], alpha)
        risks.append(threshold is not None and probs[200] >= threshold and not right[200])
    assert np.mean(risks) <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 500)
    assert np.mean(risks) > alpha / 4


@pytest.mark.parametrize(
    ("base_risk", "alpha", "share"), [(0.2, 0.1, 1 / 9), (0.05, 0.1, 0.0), (1.0, 0.1, 1.0)]
)
def test_the_bound_on_abstention(base_risk: float, alpha: float, share: float) -> None:
    assert least_abstention(base_risk, alpha) == pytest.approx(share)
