"""Histograms of a classifier's inputs: of its labels, scores and lengths."""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import Protocol

SCORE_EDGES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
"""Largest probability of each bin but the last."""
LENGTH_EDGES = (16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Most characters of each bin but the last."""


class Reference(Protocol):
    """Inputs of typical traffic, counted: by best label, its probability, and characters."""

    @property
    def labels(self) -> Mapping[str, int]:
        """Inputs of each label."""

    @property
    def scores(self) -> Sequence[int]:
        """Inputs of each bin of `SCORE_EDGES`."""

    @property
    def lengths(self) -> Sequence[int]:
        """Inputs of each bin of `LENGTH_EDGES`."""


class InputCounts:
    """Counts inputs into such histograms."""

    def __init__(self, labels: Sequence[str]) -> None:
        self.labels = dict.fromkeys(labels, 0)
        self.scores = [0] * (len(SCORE_EDGES) + 1)
        self.lengths = [0] * (len(LENGTH_EDGES) + 1)
        self.inputs = 0

    def add(self, label: str, score: float, characters: int) -> None:
        """Count an input with its best label."""
        self.labels[label] += 1
        self.scores[bisect_left(SCORE_EDGES, score)] += 1
        self.lengths[bisect_left(LENGTH_EDGES, characters)] += 1
        self.inputs += 1
