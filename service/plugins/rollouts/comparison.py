"""Comparison of two versions in one respect, after any number of requests."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from service.plugins.rollouts.sequential import (
    Counts,
    Interval,
    difference,
    evidence_above,
    evidence_below,
)

Arm = Literal["old", "new"]
"""The version that answered: the one that the name stands for, or its successor."""

Hits = tuple[float, int]
"""Hits and requests of a version."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A share of requests that may grow by `tolerance`, or with `both_ways` also shrink by it.

    `alpha` is the largest probability that the test finds harm where there is none.
    """

    name: str
    tolerance: float
    alpha: float
    both_ways: bool = False

    @property
    def bound(self) -> float:
        """Log of the evidence that shows harm."""
        return math.log((2 if self.both_ways else 1) / self.alpha)


@dataclass(frozen=True, slots=True)
class Finding:
    """A criterion and what the requests say about it.

    `statistic` is the log of the evidence for harm; harm is shown once it reaches `bound`. The true
    difference, new minus old, lies between `lower` and `upper`, after any number of requests; each
    bound ever fails with at most the probability alpha. `old` and `new` are hits and requests.
    Where both versions got the same requests, `new` counts those in which they differ, and `old`
    is None.
    """

    criterion: str
    statistic: float
    bound: float
    tolerance: float
    lower: float
    upper: float
    old: Hits | None
    new: Hits

    @classmethod
    def of(
        cls,
        criterion: Criterion,
        statistic: float,
        bounds: Interval,
        old: Hits | None,
        new: Hits,
    ) -> "Finding":
        """The finding, with numbers as short as a reader needs."""
        return cls(
            criterion=criterion.name,
            statistic=round(statistic, 3),
            bound=round(criterion.bound, 3),
            tolerance=criterion.tolerance,
            lower=round(bounds.lower, 4),
            upper=round(bounds.upper, 4),
            old=old,
            new=new,
        )


@dataclass(slots=True)
class Comparison:
    """Counts of both versions for one criterion."""

    criterion: Criterion
    old: Counts = field(default_factory=Counts)
    new: Counts = field(default_factory=Counts)

    def add(self, arm: Arm, hit: float | None, times: int = 1) -> None:
        """Count an observation in [0, 1], None if it is unknown; -1 times to take it back."""
        (self.new if arm == "new" else self.old).add(hit, times)

    @property
    def observed(self) -> bool:
        """True once either version has an observation."""
        return bool(self.old.total + self.new.total)

    @property
    def size(self) -> int:
        """Requests of both versions."""
        return self.old.requests + self.new.requests

    @property
    def exceeds(self) -> bool:
        """True if the observed difference is beyond the tolerance."""
        margin, found = self.criterion.tolerance, self.new.rate - self.old.rate
        return found > margin or (self.criterion.both_ways and found < -margin)

    def reaches(self, least: int) -> bool:
        """True if each version has at least so many observations."""
        return min(self.old.total, self.new.total) >= least

    @property
    def statistic(self) -> float:
        """Log of the evidence for harm."""
        return self._evidence(self, self)

    def harmful(self, more: float = 0.0) -> bool:
        """True if harm is shown by `more` than the bound."""
        return self.exceeds and self.statistic >= self.criterion.bound + more

    @property
    def surely_harmful(self) -> bool:
        """True if harm is shown whatever the unknown observations are."""
        if not self.exceeds:
            return False
        above = Comparison(self.criterion, self.old.most, self.new.least)
        below = Comparison(self.criterion, self.old.least, self.new.most)
        return self._evidence(above, below) >= self.criterion.bound

    def harmless(self, alpha: float) -> bool:
        """True if the absence of harm is shown, wrongly with probability `alpha` at most."""
        margin, needed = self.criterion.tolerance, -math.log(alpha)
        if evidence_below(self.old, self.new, margin) < needed:
            return False
        return not self.criterion.both_ways or (
            evidence_above(self.old, self.new, -margin) >= needed
        )

    def without(self, other: "Comparison") -> "Comparison":
        """The comparison without some of its counts."""
        return Comparison(self.criterion, self.old - other.old, self.new - other.new)

    def copy(self) -> "Comparison":
        """The comparison as it is now."""
        return Comparison(self.criterion, replace(self.old), replace(self.new))

    @property
    def hits(self) -> tuple[Hits | None, Hits]:
        """Hits and requests of the old and of the new version."""
        return (self.old.hits, self.old.total), (self.new.hits, self.new.total)

    def finding(self) -> Finding:
        """The comparison for a reader. Takes some milliseconds: do not call it on an event loop."""
        sides = 2 if self.criterion.both_ways else 1
        bounds = difference(self.old, self.new, self.criterion.alpha / sides)
        return Finding.of(self.criterion, self.statistic, bounds, *self.hits)

    def counts(self) -> list[float]:
        """The counts, as `resume` takes them."""
        old, new = self.old, self.new
        return [old.hits, old.total, old.unknown, new.hits, new.total, new.unknown]

    def resume(self, counts: Any) -> None:
        """Go on from counts that were kept."""
        self.old, self.new = Counts(*counts[:3]), Counts(*counts[3:])

    def _evidence(self, above: "Comparison", below: "Comparison") -> float:
        """Evidence of the counts `above` for a rise, or if it is tested of `below` for a fall."""
        margin = self.criterion.tolerance
        found = evidence_above(above.old, above.new, margin)
        if not self.criterion.both_ways:
            return found
        return max(found, evidence_below(below.old, below.new, -margin))
