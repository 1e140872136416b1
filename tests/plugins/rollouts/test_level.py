"""Levels that follow feedback keep the promised coverage where a fitted threshold loses it."""

from collections import deque

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.classification.conformal import conformal_threshold
from service.engine.pooling import ConformalSets
from service.plugins.rollouts.answer_ids import ToldSet
from service.plugins.rollouts.feedback_ledger import LEVEL_MOST as MOST
from service.plugins.rollouts.feedback_ledger import moved

COVERAGE, STEP = 0.9, 0.02
TEXTS = 12_000


def fitted(random: np.random.Generator) -> ConformalSets:
    """Sets as held-out lines give them, whose true labels have probabilities like `easy` texts."""
    return ConformalSets.fitted(COVERAGE, conformal_threshold(random.beta(6, 1, 2000), COVERAGE))


def shifted(random: np.random.Generator) -> list[float]:
    """Probabilities of the true labels of texts, of which the second half is harder."""
    return [*random.beta(6, 1, TEXTS // 2), *random.beta(2, 1, TEXTS // 2)]


def least(sets: ConformalSets) -> float:
    assert isinstance(sets.least, float)
    return sets.least


def covered(
    sets: ConformalSets,
    true_probs: list[float],
    random: np.random.Generator,
    *,
    replicas: int = 1,
    delay: int = 0,
) -> list[list[bool]]:
    """Texts whose set held the true label, of each replica, which any other one may learn."""
    levels = [sets.level] * replicas
    held: list[list[bool]] = [[] for _ in range(replicas)]
    ratings: deque[tuple[ToldSet, bool]] = deque()
    for true_prob in true_probs:
        answers, learns = random.integers(replicas, size=2)
        used = sets.at(levels[answers])
        holds = true_prob >= least(used)
        held[answers].append(holds)
        ratings.append((ToldSet(frozenset(), COVERAGE, used.level), not holds))
        if len(ratings) > delay:
            told, missed = ratings.popleft()
            levels[learns] = moved(levels[learns], told, STEP, missed=missed)
    return held


def test_coverage_that_a_fitted_threshold_loses_is_kept() -> None:
    random = np.random.default_rng(1)
    sets, true_probs = fitted(random), shifted(random)
    harder = true_probs[TEXTS // 2 :]
    assert np.mean([prob >= least(sets) for prob in harder]) < 0.6
    (held,) = covered(sets, true_probs, random)
    assert np.mean(held[: TEXTS // 2]) == pytest.approx(COVERAGE, abs=0.01)
    assert np.mean(held[TEXTS // 2 :]) == pytest.approx(COVERAGE, abs=0.01)


@pytest.mark.parametrize(("replicas", "delay"), [(1, 100), (4, 0), (4, 100)])
def test_ratings_that_are_late_or_reach_another_replica_keep_it_too(
    replicas: int, delay: int
) -> None:
    random = np.random.default_rng(2)
    sets, true_probs = fitted(random), shifted(random)
    held = covered(sets, true_probs, random, replicas=replicas, delay=delay)
    for of_replica in held:
        harder = of_replica[len(of_replica) // 2 :]
        assert np.mean(harder) == pytest.approx(COVERAGE, abs=0.035)


@given(st.lists(st.floats(0, 1), min_size=200, max_size=400))
def test_so_many_sets_hold_the_true_label_whatever_the_texts_are(true_probs: list[float]) -> None:
    (held,) = covered(ConformalSets.fitted(COVERAGE, 0.7), true_probs, np.random.default_rng(3))
    missed = len(held) - sum(held)
    assert missed <= 0.1 * len(held) + (0.1 + STEP) / STEP + 1e-6


def test_sets_that_only_every_label_satisfies_are_whole_most_of_the_time() -> None:
    (held,) = covered(ConformalSets.fitted(0.9, 0.5), [0.0] * 2000, np.random.default_rng(4))
    assert np.mean(held[100:]) == pytest.approx(COVERAGE, abs=0.01)


def test_a_level_stays_where_labels_are_left() -> None:
    told = ToldSet(frozenset({0}), COVERAGE, MOST)
    assert moved(MOST, told, 0.1, missed=False) == MOST
    assert moved(0.0, ToldSet(frozenset(), COVERAGE, 0.0), 0.1, missed=True) == -0.09
    assert moved(-0.09, ToldSet(frozenset(), COVERAGE, 0.0), 0.1, missed=True) == -0.1
    rare = ToldSet(frozenset(), 0.3, 0.7)
    assert moved(0.7, rare, 0.1, missed=False) == 0.7


@given(st.floats(0.01, 0.99), st.floats(0, 1), st.floats(-1, 1), st.floats(-1, 1))
def test_sets_of_a_lower_level_hold_more_labels(
    coverage: float, fitted: float, one: float, other: float
) -> None:
    sets = ConformalSets.fitted(coverage, fitted)
    low, high = sorted((one, other))
    assert 0 <= least(sets.at(low)) <= least(sets.at(high)) + 1e-12 <= 1 + 1e-12
    assert sets.at(sets.level) == sets
    assert (sets.at(-0.1).least, sets.at(-0.1).level) == (0, 0)
    by_label = ConformalSets.fitted(coverage, (fitted, 0.25)).at(low)
    assert by_label.least == (
        sets.at(low).least,
        ConformalSets.fitted(coverage, 0.25).at(low).least,
    )
