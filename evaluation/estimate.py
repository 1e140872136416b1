"""Estimates with 95 % intervals from a sample of lines, and the thresholds (bars) for them."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from service.classification.calibration import Array

Rows = npt.NDArray[np.intp]
RESAMPLES = 1000
_SEED = 20_260_101
Z = 1.959963984540054
"""Standard errors to each side of the mean that hold 95 % of a normal distribution."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value, its 95 % interval, the number of lines, and the interval's method."""

    value: float
    low: float
    high: float
    lines: int
    method: str


def share(hits: int, lines: int) -> Estimate:
    """A share of independent lines with Wilson's interval (1927), which stays within 0..1.

    Raises ValueError for no lines.
    """
    if not lines:
        raise ValueError("no lines")
    value, spread = hits / lines, Z * Z / lines
    centre = (value + spread / 2) / (1 + spread)
    half = Z / (1 + spread) * math.sqrt(value * (1 - value) / lines + spread / (4 * lines))
    # At 0 and 1 the exact end is 0 or 1, which rounding may miss.
    low, high = min(value, max(0.0, centre - half)), max(value, min(1.0, centre + half))
    return Estimate(value, low, high, lines, "Wilson")


def resampled(statistic: Callable[[Rows], float], lines: int) -> Estimate:
    """A statistic with its interval by the percentile bootstrap (Efron 1979) over lines.

    `statistic` takes an array of line indices, which may repeat. All values of a line are resampled
    together, so differences between two answers to it are paired.
    """
    draw = np.random.default_rng(_SEED)
    values = [statistic(draw.integers(0, lines, lines)) for _ in range(RESAMPLES)]
    low, high = np.percentile(values, (2.5, 97.5))
    return Estimate(statistic(np.arange(lines)), float(low), float(high), lines, "bootstrap")


def mean(values: Array) -> Estimate:
    """The mean of one value for each line."""
    return resampled(lambda rows: float(values[rows].mean()), len(values))


Verdict = Literal["stands", "undecided", "fails"]


@dataclass(frozen=True, slots=True)
class Bar:
    """A threshold of a metric: `>= X`, `<= X`, or `within X` (from -X to X)."""

    low: float
    high: float

    @classmethod
    def of(cls, text: str) -> "Bar":
        """Parse a bar from a suite's text, which has the form of `suite.BAR`."""
        operator, number = text.split()
        bound = float(number)
        match operator:
            case ">=":
                return cls(bound, float("inf"))
            case "<=":
                return cls(float("-inf"), bound)
            case _:
                return cls(-bound, bound)

    def verdict(self, estimate: Estimate) -> Verdict:
        """`fails` if the value misses the bar, `undecided` if only part of its interval does."""
        if not self.low <= estimate.value <= self.high:
            return "fails"
        inside = self.low <= estimate.low and estimate.high <= self.high
        return "stands" if inside else "undecided"
