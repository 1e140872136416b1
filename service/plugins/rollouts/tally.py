"""Running figures of one version: how often it was right, as far as callers said."""

import math
from dataclasses import dataclass, field
from typing import Any

from service.plugins.rollouts.answer_ids import ToldLabel
from service.plugins.rollouts.rating import Rating

BINS = 15


@dataclass(slots=True)
class Tally:
    """Sums over the rated answers of a version.

    `right` is the sum of ratings, 1 for right and 0 for wrong. `bins` are those of the expected
    calibration error (Guo et al. 2017), of equal width, each with its answers, the sum of their
    stated probabilities, and the right ones. `covered` of `sets` label sets held the true label.
    """

    rated: int = 0
    right: float = 0.0
    bins: list[list[float]] = field(default_factory=lambda: [[0, 0.0, 0] for _ in range(BINS)])
    sets: int = 0
    covered: int = 0

    def add(self, told: ToldLabel | None, rating: Rating) -> None:
        """Count a rating of an answer that told this."""
        if rating.score is not None:
            self.rated += 1
            self.right += rating.score
        if told is None:
            return
        if rating.right is not None:
            self._claim(told, right=rating.right)
        if told.label_set is not None and rating.label is not None:
            self.sets += 1
            self.covered += rating.label in told.label_set.members

    def _claim(self, told: ToldLabel, *, right: bool) -> None:
        """Compare the probability of the best label with its being right."""
        place = max(0, math.ceil(told.score * BINS) - 1)
        self.bins[place][0] += 1
        self.bins[place][1] += told.score
        self.bins[place][2] += right

    @property
    def accuracy(self) -> float | None:
        """Mean rating; None without any."""
        return self.right / self.rated if self.rated else None

    @property
    def calibration_error(self) -> float | None:
        """Mean distance of stated probabilities from the share that is right; None without any."""
        claims = sum(count for count, _, _ in self.bins)
        apart = sum(abs(right - stated) for _, stated, right in self.bins)
        return apart / claims if claims else None

    @property
    def coverage(self) -> float | None:
        """Share of label sets that held the true label; None without any."""
        return self.covered / self.sets if self.sets else None

    def told(self) -> dict[str, Any]:
        """The figures as they are read."""
        figures = {
            "accuracy": self.accuracy,
            "calibration_error": self.calibration_error,
            "coverage": self.coverage,
        }
        shown = {name: value and round(value, 4) for name, value in figures.items()}
        return {"rated": self.rated, **shown, "sets": self.sets}

    def kept(self) -> dict[str, Any]:
        """The sums, as the constructor takes them."""
        return {
            "rated": self.rated,
            "right": self.right,
            "bins": [list(each) for each in self.bins],
            "sets": self.sets,
            "covered": self.covered,
        }
