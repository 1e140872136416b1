"""Golden examples out of held-out lines: balanced, answered rightly, and telling."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

_SURE = 0.75
"""Probability of an answer that is more than a nat ahead of any other: rounding cannot turn it."""


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
    """At most `count` examples, as many of one label as of another as far as they go round.

    Only those that the adapter answered rightly, since they must prove on every machine that its
    weights are the ones measured. Those that the base got wrong come first. A label that has too
    few of them is filled up, so that no constant answer passes, but no more than half of all are
    such that the base passes too; none if it passes every one.
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
