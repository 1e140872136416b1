"""Comparison of answers with each other, and the share of samples that are the same."""

import pytest

from service.adapters.confidence import Match
from service.adapters.golden_score import agreement, same_answer


@pytest.mark.parametrize(
    ("match", "expected", "answer", "same"),
    [
        ("exact", "Paris", " Paris\n", True),
        ("exact", "Paris", "paris", False),
        ("words", "Paris", "the Paris.", True),
        ("json", '{"a": 1, "b": 2}', '{"b": 2, "a": 1}', True),
        ("json", '{"a": 1}', '{"a": true}', False),
        ("json", '{"a": 1}', "a: 1", False),
        ("json", "a: 1", "a: 1", False),
    ],
)
def test_answers_are_compared_as_golden_examples_are(
    match: Match, expected: str, answer: str, same: bool
) -> None:
    assert same_answer(expected, answer, match) is same


def test_agreement_is_the_share_of_the_same() -> None:
    assert agreement("a cat", ["cat", "The cat!", "dog", "a"], "words") == 0.5
