"""Bars that a metric must meet."""

from dataclasses import dataclass
from typing import Literal

from evaluation.estimate import Estimate

Verdict = Literal["stands", "undecided", "fails"]


@dataclass(frozen=True, slots=True)
class Bar:
    """`>= X`, `<= X`, or `within X`: from -X to X."""

    low: float
    high: float

    @classmethod
    def of(cls, text: str) -> "Bar":
        """The bar of a suite's text, which has the form of `suite.BAR`."""
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
        """`fails` if the value misses the bar, `undecided` if only part of the interval does."""
        if not self.low <= estimate.value <= self.high:
            return "fails"
        inside = self.low <= estimate.low and estimate.high <= self.high
        return "stands" if inside else "undecided"
