"""Comparison of two versions in one respect, after any number of requests."""

import math
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from service.releases.sequential import (
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

    def add(self, arm: Arm, hit: float) -> None:
        """Count an observation in [0, 1]."""
        (self.new if arm == "new" else self.old).add(hit)

    @property
    def observed(self) -> bool:
        """True once either version has an observation."""
        return bool(self.old.total + self.new.total)

    @property
    def statistic(self) -> float:
        """Log of the evidence for harm."""
        margin = self.criterion.tolerance
        above = evidence_above(self.old, self.new, margin)
        if not self.criterion.both_ways:
            return above
        return max(above, evidence_below(self.old, self.new, -margin))

    @property
    def harmful(self) -> bool:
        """True if harm is shown."""
        margin, found = self.criterion.tolerance, self.new.rate - self.old.rate
        if found <= margin and not (self.criterion.both_ways and found < -margin):
            return False  # the observed difference is within the tolerance
        return self.statistic >= self.criterion.bound

    def harmless(self, alpha: float) -> bool:
        """True if the absence of harm is shown, wrongly with probability `alpha` at most."""
        margin, needed = self.criterion.tolerance, -math.log(alpha)
        if evidence_below(self.old, self.new, margin) < needed:
            return False
        return not self.criterion.both_ways or (
            evidence_above(self.old, self.new, -margin) >= needed
        )

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

    def counts(self) -> Any:
        """The counts, as `resume` takes them."""
        return [self.old.hits, self.old.total, self.new.hits, self.new.total]

    def resume(self, counts: Any) -> None:
        """Go on from counts that were kept."""
        old_hits, old_total, new_hits, new_total = counts
        self.old, self.new = Counts(old_hits, old_total), Counts(new_hits, new_total)
