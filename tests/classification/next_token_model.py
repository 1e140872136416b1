"""A random but deterministic next-token model, and constrained decoding by its definition."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from service.classification.frame import Label
from service.classification.scorer import LabelTrie

VOCABULARY = 600


@cache
def next_log_probs(prefix: tuple[int, ...]) -> tuple[float, ...]:
    """Full-vocabulary log-probabilities after `prefix`."""
    logits = np.random.default_rng([len(prefix), *prefix]).normal(scale=3, size=VOCABULARY)
    logits -= np.log(np.exp(logits).sum())
    return tuple(map(float, logits))


def answers(trie: LabelTrie) -> list[list[float]]:
    """Answers of an engine with this model to the trie's reads."""
    return [[next_log_probs(read.prefix)[i] for i in read.token_ids] for read in trie.reads]


def constrained_decoding(labels: Sequence[Label], ends: Sequence[int]) -> list[float]:
    """P(label) when every step samples among the tokens that some whole answer continues with.

    A whole answer is a label and one end token. Every answer is scored from its first token to its
    last, whether there was a choice or not.
    """
    whole = [(*label.token_ids, end) for label in labels for end in ends]

    def score(answer: tuple[int, ...]) -> float:
        probability = 1.0
        for at, token in enumerate(answer):
            said = answer[:at]
            allowed = {other[at] for other in whole if other[:at] == said}
            spread = {each: math.exp(next_log_probs(said)[each]) for each in allowed}
            probability *= spread[token] / sum(spread.values())
        return probability

    return [sum(score((*label.token_ids, end)) for end in ends) for label in labels]


def alternatives(labels: Sequence[Label], ends: Sequence[int]) -> dict[tuple[int, ...], int]:
    """Numbers of tokens allowed where constrained decoding can still decide a label."""
    ids = [label.token_ids for label in labels]
    counts = {}
    for said in {path[:at] for path in ids for at in range(len(path) + 1)}:
        going = [path for path in ids if path[: len(said)] == said]
        if len(going) > 1:
            tokens = {path[len(said)] for path in going if path != said}
            counts[said] = len(tokens) + (len(ends) if said in going else 0)
    return {said: count for said, count in counts.items() if count > 1}
