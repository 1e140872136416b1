"""Batches of examples of similar length, with little padding."""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from service.errors import ConfigurationError
from training.examples import Example

_POOL = 64
"""Number of batches whose examples are sorted together: larger pools pad less, smaller mix more."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Indices of a batch's examples, their number of tokens, and of places including padding."""

    indices: tuple[int, ...]
    tokens: int
    places: int


def plan_batches(
    examples: Sequence[Example], batch_tokens: int, seed: int, epochs: float
) -> list[Batch]:
    """The batches of the whole training, in order; the same for the same seed.

    Every epoch shuffles anew, sorts pools of neighbours by length, cuts these into batches of at
    most `batch_tokens` places and shuffles the batches. The last epoch may be partial. Raises
    ConfigurationError for a batch_tokens below the longest example.
    """
    longest = max(len(example.token_ids) for example in examples)
    if longest > batch_tokens:
        raise ConfigurationError(
            f"training.batch_tokens: {batch_tokens} is less than the longest line of {longest}"
        )
    order = random.Random(seed)
    planned: list[Batch] = []
    left = epochs
    while left > 0:
        epoch = _epoch(examples, batch_tokens, order)
        planned.extend(epoch[: max(1, round(len(epoch) * min(1.0, left)))])
        left -= 1
    return planned


def batches_by_length(examples: Sequence[Example], batch_tokens: int) -> list[Batch]:
    """Batches for one pass over the examples, the shortest first."""
    by_length = sorted(range(len(examples)), key=lambda index: len(examples[index].token_ids))
    return _cut(examples, by_length, batch_tokens)


def padding(batches: Sequence[Batch]) -> float:
    """Share of the places that hold no token, in 0..1."""
    return 1 - sum(batch.tokens for batch in batches) / sum(batch.places for batch in batches)


def _epoch(examples: Sequence[Example], batch_tokens: int, order: random.Random) -> list[Batch]:
    shuffled = list(range(len(examples)))
    order.shuffle(shuffled)
    mean = sum(len(example.token_ids) for example in examples) / len(examples)
    pool = max(1, round(_POOL * batch_tokens / mean))
    batches: list[Batch] = []
    for start in range(0, len(shuffled), pool):
        near = sorted(shuffled[start : start + pool], key=lambda i: len(examples[i].token_ids))
        batches.extend(_cut(examples, near, batch_tokens))
    order.shuffle(batches)
    return batches


def _cut(examples: Sequence[Example], ordered: Sequence[int], batch_tokens: int) -> list[Batch]:
    """Cut indices that are sorted by length, so that the last of a batch is its longest."""
    batches: list[Batch] = []
    current: list[int] = []
    for index in ordered:
        if current and (len(current) + 1) * len(examples[index].token_ids) > batch_tokens:
            batches.append(_batch(examples, current))
            current = []
        current.append(index)
    batches.append(_batch(examples, current))
    return batches


def _batch(examples: Sequence[Example], indices: Sequence[int]) -> Batch:
    lengths = [len(examples[index].token_ids) for index in indices]
    return Batch(tuple(indices), sum(lengths), max(lengths) * len(lengths))
