"""Golden examples out of held-out lines: balanced, answered rightly, and not by the base."""

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

    Only those that the adapter answered rightly and the base did not, since they must prove on
    every machine that the weights are the ones measured. Of each label the sure ones come first,
    then others of its more confident half.
    """
    by_label: dict[str, list[Candidate]] = defaultdict(list)
    for candidate in candidates:
        if candidate.right and not candidate.base_right:
            by_label[candidate.label].append(candidate)
    order = random.Random(seed)
    queues = [_sure(by_label[label], order) for label in sorted(by_label)]
    order.shuffle(queues)
    rounds = [each for row in zip_longest(*queues) for each in row if each is not None]
    return rounds[:count]


def _sure(candidates: Sequence[Candidate], order: random.Random) -> list[Candidate]:
    ranked = sorted(candidates, key=lambda each: -each.confidence)
    sure = [each for each in ranked if each.confidence >= _SURE]
    order.shuffle(sure)
    return [*sure, *ranked[len(sure) : (len(ranked) + 1) // 2]]
