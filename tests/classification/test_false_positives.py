"""Thresholds that few harmless texts reach."""

import math

import numpy as np
import pytest
from scipy import stats

from service.classification.conformal import (
    bounded_threshold,
    lines_needed,
    most_flagged,
)

CASES = [(0.01, 0.95), (0.05, 0.95), (0.02, 0.99), (0.4, 0.6)]


@pytest.mark.parametrize(("alpha", "confidence", "needed"), [(0.01, 0.95, 299), (0.05, 0.95, 59)])
def test_the_least_number_of_lines(alpha: float, confidence: float, needed: int) -> None:
    assert lines_needed(alpha, confidence) == needed


@pytest.mark.parametrize(("alpha", "confidence"), CASES)
@pytest.mark.parametrize("more", [0, 1, 100, 9000])
def test_as_many_may_be_flagged_as_the_binomial_tail_allows(
    alpha: float, confidence: float, more: int
) -> None:
    lines = lines_needed(alpha, confidence) + more
    most = most_flagged(lines, alpha, confidence)
    assert most is not None
    assert stats.binom.cdf(most, lines, alpha) <= 1 - confidence
    assert stats.binom.cdf(most + 1, lines, alpha) > 1 - confidence
    # The upper limit of Clopper and Pearson for so many of so many.
    assert stats.beta.ppf(confidence, most + 1, lines - most) <= alpha + 1e-12
    assert most_flagged(lines_needed(alpha, confidence) - 1, alpha, confidence) is None


@pytest.mark.parametrize(("alpha", "confidence"), CASES)
def test_the_bound_holds_as_often_as_it_says(alpha: float, confidence: float) -> None:
    random, lines = np.random.default_rng(7), lines_needed(alpha, confidence) + 40
    rates = [1 - bounded_threshold(random.random(lines), alpha, confidence) for _ in range(2000)]
    held = np.mean(np.array(rates) <= alpha)
    assert held >= confidence - 4 * math.sqrt(confidence * (1 - confidence) / 2000)


def test_no_more_reach_it_than_may_and_ties_count() -> None:
    scores = np.repeat([0.1, 0.2, 0.9], 100)
    threshold = bounded_threshold(scores, 0.05, 0.95)
    most = most_flagged(300, 0.05, 0.95)
    assert most is not None
    assert 0 < most < 100
    assert threshold == math.nextafter(0.9, 1)  # all hundred of them are equal
    assert bounded_threshold(np.linspace(0, 1, 300), 0.05, 0.95) < 1
    assert bounded_threshold(np.ones(300), 0.05, 0.95) > 1


def test_too_few_scores_are_refused() -> None:
    with pytest.raises(ValueError, match="299 scores are needed, got 298"):
        bounded_threshold(np.zeros(298), 0.01, 0.95)
