"""Running figures of a version agree with those of its answers together."""

import random

import numpy as np
import pytest

from service.classification.reliability import BINS as CELLS
from service.classification.reliability import expected_calibration_error
from service.plugins.rollouts.answer_ids import ToldLabel, ToldSet
from service.plugins.rollouts.feedback_ledger import BINS, Rating, Tally


def told(
    score: float = 0.8, *, abstained: bool = False, members: set[int] | None = None
) -> ToldLabel:
    label_set = None if members is None else ToldSet(frozenset(members), 0.9, 0.1)
    return ToldLabel(1, score, abstained, label_set)


def test_the_calibration_error_is_that_of_the_reliability_diagram() -> None:
    draws, tally = random.Random(1), Tally()
    scores = [*(draws.random() for _ in range(300)), 0.0, 1.0, 0.2, 1 / 15]
    right = [draws.random() < score * 0.8 for score in scores]
    for score, correct in zip(scores, right, strict=True):
        tally.add(told(score), Rating.by_word(told(score), correct=correct))
    expected = expected_calibration_error(np.array(scores), np.array(right))
    assert BINS == CELLS
    assert tally.calibration_error == pytest.approx(expected)
    assert tally.accuracy == pytest.approx(sum(right) / len(right))


def test_labels_give_accuracy_and_coverage() -> None:
    tally = Tally()
    for label in (1, 2, 3):
        answer = told(members={1, 2})
        tally.add(answer, Rating.by_label(answer, label))
    assert tally.told() == {
        "rated": 3,
        "accuracy": 0.3333,
        "calibration_error": round(abs(0.8 - 1 / 3), 4),
        "coverage": 0.6667,
        "sets": 3,
    }


def test_an_answer_that_abstained_is_neither_right_nor_wrong_by_its_label() -> None:
    tally, answer = Tally(), told(abstained=True, members={1})
    tally.add(answer, Rating.by_label(answer, 1))
    assert (tally.rated, tally.accuracy, tally.coverage) == (0, None, 1.0)
    tally.add(answer, Rating.by_word(answer, correct=False))
    assert (tally.rated, tally.accuracy) == (1, 0.0)


def test_generated_text_has_an_accuracy_alone() -> None:
    tally = Tally()
    tally.add(None, Rating(0.5))
    tally.add(None, Rating.by_word(None, correct=True))
    assert (tally.accuracy, tally.calibration_error, tally.coverage) == (0.75, None, None)
    assert Tally(**tally.kept()) == tally
