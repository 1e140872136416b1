import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.classification.calibration import Array
from service.classification.conformal import (
    conformal_threshold,
    conformal_thresholds,
    examples_needed,
    label_sets,
)

probs = arrays(np.float64, st.integers(1, 300), elements=st.floats(0, 1))
coverages = st.integers(1, 99).map(lambda percent: percent / 100)


@given(probs, coverages)
def test_is_the_empirical_quantile_of_angelopoulos_and_bates(
    true_probs: Array, coverage: float
) -> None:
    n = len(true_probs)
    rank = math.ceil(round((n + 1) * coverage, 6))
    threshold = conformal_threshold(true_probs, coverage)
    if rank > n:
        assert threshold == 0
    else:
        # The inverse of the empirical distribution is constant between (rank - 1)/n and rank/n.
        score = np.quantile(1 - true_probs, (rank - 0.5) / n, method="inverted_cdf")
        assert threshold == pytest.approx(1 - score, abs=1e-12)


@given(probs, coverages)
def test_covers_the_calibration_examples_themselves(true_probs: Array, coverage: float) -> None:
    covered = label_sets(true_probs, conformal_threshold(true_probs, coverage)).mean()
    assert covered >= coverage


@given(probs, coverages, coverages)
def test_more_coverage_means_larger_sets(true_probs: Array, one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert conformal_threshold(true_probs, high) <= conformal_threshold(true_probs, low)


def test_new_examples_are_covered_as_often_as_promised() -> None:
    random = np.random.default_rng(0)
    coverages = []
    for _ in range(400):
        held_out, new = random.beta(5, 2, size=99), random.beta(5, 2, size=1000)
        coverages.append(label_sets(new, conformal_threshold(held_out, 0.9)).mean())
    # Its distribution is Beta(90, 10): mean 0.9, standard error of this mean 0.0015.
    assert np.mean(coverages) == pytest.approx(0.9, abs=0.006)


def test_the_rank_is_that_of_the_written_coverage() -> None:
    # 100 * 0.55 is 55.00000000000001 in floats: rank 55 of 99, not 56.
    true_probs = np.arange(1, 100) / 100
    assert conformal_threshold(true_probs, 0.55) == true_probs[99 - 55]


def test_too_few_examples_promise_nothing_but_every_label() -> None:
    assert conformal_threshold(np.full(8, 0.99), 0.9) == 0
    assert conformal_threshold(np.full(9, 0.99), 0.9) == 0.99


@pytest.mark.parametrize("coverage", [0.1, 0.5, 0.55, 0.9, 0.95, 0.999])
def test_so_many_examples_are_needed_for_a_promise(coverage: float) -> None:
    needed = examples_needed(coverage)
    assert conformal_threshold(np.full(needed, 0.99), coverage) == 0.99
    assert needed == 1 or conformal_threshold(np.full(needed - 1, 0.99), coverage) == 0


def test_each_label_is_covered_where_it_applies_also_one_that_is_harder() -> None:
    random = np.random.default_rng(3)

    def draw(count: int) -> tuple[Array, npt.NDArray[np.bool_]]:
        applies = random.random((count, 2)) < [0.5, 0.1]
        easy = np.where(applies[:, 0], random.beta(9, 1, count), random.beta(1, 9, count))
        hard = np.where(applies[:, 1], random.beta(2, 3, count), random.beta(1, 9, count))
        return np.stack([easy, hard], axis=1), applies

    held_out, applies = draw(4000)
    new, new_applies = draw(100_000)
    by_label = label_sets(new, conformal_thresholds(held_out, applies, 0.9))
    of_all = label_sets(new, conformal_threshold(held_out[applies], 0.9))
    for label in (0, 1):
        assert by_label[new_applies[:, label], label].mean() == pytest.approx(0.9, abs=0.03)
    assert of_all[new_applies[:, 1], 1].mean() < 0.75


def test_a_label_with_too_few_examples_is_in_every_set() -> None:
    probs = np.full((20, 3), 0.7)
    applies = np.zeros((20, 3), dtype=np.bool_)
    applies[:9, 0], applies[:8, 1] = True, True
    assert conformal_thresholds(probs, applies, 0.9) == (0.7, 0.0, 0.0)


def test_a_set_may_hold_all_some_or_none_of_the_labels() -> None:
    sets = label_sets(np.array([[0.5, 0.3, 0.2], [0.4, 0.4, 0.2], [0.2, 0.2, 0.2]]), 0.3)
    assert sets.tolist() == [[True, True, False], [True, True, False], [False, False, False]]


@pytest.mark.parametrize("coverage", [0.0, 1.0, -0.1, 1.1, math.nan])
def test_refuses_a_coverage_that_cannot_be_promised(coverage: float) -> None:
    with pytest.raises(ValueError, match="coverage must be between 0 and 1"):
        conformal_threshold(np.array([0.5]), coverage)


@pytest.mark.parametrize("true_probs", [[], [0.5, 1.1], [-0.1], [math.nan]])
def test_refuses_what_is_no_probability(true_probs: list[float]) -> None:
    with pytest.raises(ValueError, match="must be probabilities"):
        conformal_threshold(np.array(true_probs), 0.9)
