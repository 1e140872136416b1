"""Golden examples out of held-out lines: balanced, answered rightly, and telling."""

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any


@dataclass(frozen=True, slots=True)
class Candidate:
    """A held-out line as a golden example, and how the adapter and the base answered it."""

    line: dict[str, Any]
    label: str
    right: bool
    base_right: bool
    confidence: float = 1.0


def choose_golden(candidates: Sequence[Candidate], count: int, seed: int) -> list[Candidate]:
    """At most `count` examples, as many of one label as of another as far as they go round.

    Only those that the adapter answered rightly, since they must prove on every machine that its
    weights are the ones measured. Those that the base got wrong come first, because they show
    that something was loaded; of them, and of the others, only the more confident half, which
    rounding cannot turn.
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
    return rounds[:count]


def _sure(candidates: Sequence[Candidate], order: random.Random) -> list[Candidate]:
    ranked = sorted(candidates, key=lambda each: -each.confidence)
    half = ranked[: (len(ranked) + 1) // 2]
    order.shuffle(half)
    return half
