"""Choice of golden examples from held-out lines."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

_SURE = 0.75
"""Probability of an answer with a lead of more than one nat, which rounding cannot reverse."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A held-out line as a golden example, and how the adapter and the base answered it.

    `confidence` is the adapter's probability of its label, or of the least certain token of its
    answer.
    """

    line: dict[str, Any]
    label: str
    right: bool
    base_right: bool
    confidence: float


def choose_golden(candidates: Sequence[Candidate], count: int, seed: int) -> list[Candidate]:
    """At most `count` examples, as evenly over the labels as the lines allow.

    Only examples that the adapter answered correctly, because they must prove on every machine that
    the weights are the measured ones. Those that the base got wrong come first. Labels with too few
    of these are filled up, so that no constant answer passes, but the base passes at most half of
    all; without any that the base fails, the result is empty.
    """
    by_label: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.right:
            by_label[candidate.label].append(candidate)
    order = random.Random(seed)
    queues = []
    for label in sorted(by_label):
        telling = [each for each in by_label[label] if not each.base_right]
        others = [each for each in by_label[label] if each.base_right]
        queues.append([*_sure(telling, order), *_sure(others, order)])
    order.shuffle(queues)
    rounds = [each for row in zip_longest(*queues) for each in row if each is not None]
    chosen = rounds[:count]
    spare = 2 * sum(not each.base_right for each in chosen) - len(chosen)
    surplus = [each for each in chosen if each.base_right][spare:] if spare < 0 else []
    return [each for each in chosen if each not in surplus]


def _sure(candidates: Sequence[Candidate], order: random.Random) -> list[Candidate]:
    ranked = sorted(candidates, key=lambda each: -each.confidence)
    sure = [each for each in ranked if each.confidence >= _SURE]
    order.shuffle(sure)
    return [*sure, *ranked[len(sure) : (len(ranked) + 1) // 2]]
