"""Agreement of two versions about the same requests, in one respect."""

from dataclasses import dataclass, field, replace
from typing import Any

from service.plugins.rollouts.comparison import Criterion, Finding, Hits
from service.plugins.rollouts.sequential import (
    Counts,
    Interval,
    evidence_over,
    evidence_under,
    rate,
)


@dataclass(slots=True)
class Agreement:
    """Disagreements about requests that both versions got, each in [0, 1].

    Both answers of a pair depend on its request, so the pair is one observation: its mean is
    compared with the tolerance. With a criterion of both ways an observation is in [-1, 1], and
    `counts` holds it scaled to [0, 1].
    """

    criterion: Criterion
    pairs: Counts = field(default_factory=Counts)

    def add(self, difference: float) -> None:
        """Count a pair."""
        self.pairs.add(self._scaled(difference))

    @property
    def observed(self) -> bool:
        """True once there is a pair."""
        return bool(self.pairs.total)

    @property
    def statistic(self) -> float:
        """Log of the evidence for harm."""
        margin = self.criterion.tolerance
        over = evidence_over(self.pairs, self._scaled(margin))
        if not self.criterion.both_ways:
            return over
        return max(over, evidence_under(self.pairs, self._scaled(-margin)))

    @property
    def size(self) -> int:
        """Pairs."""
        return self.pairs.total

    @property
    def exceeds(self) -> bool:
        """True if the observed mean is beyond the tolerance."""
        margin, found = self.criterion.tolerance, self.pairs.rate
        if not self.criterion.both_ways:
            return found > margin
        return abs(2 * found - 1) > margin and self.observed

    def reaches(self, least: int) -> bool:
        """True if there are at least so many pairs."""
        return self.pairs.total >= least

    def harmful(self, more: float = 0.0) -> bool:
        """True if harm is shown by `more` than the bound."""
        return self.statistic >= self.criterion.bound + more

    @property
    def surely_harmful(self) -> bool:
        """True if harm is shown."""
        return self.harmful()

    def without(self, other: "Agreement") -> "Agreement":
        """The agreement without some of its pairs."""
        return Agreement(self.criterion, self.pairs - other.pairs)

    def copy(self) -> "Agreement":
        """The agreement as it is now."""
        return Agreement(self.criterion, replace(self.pairs))

    @property
    def hits(self) -> tuple[Hits | None, Hits]:
        """None for the old version; the sum over the pairs, and their number."""
        sum_ = self.pairs.hits
        if self.criterion.both_ways:
            sum_ = 2 * sum_ - self.pairs.total
        return None, (round(sum_, 3), self.pairs.total)

    def finding(self) -> Finding:
        """The agreement for a reader; `new` is the sum over the pairs and their number."""
        return Finding.of(self.criterion, self.statistic, self._bounds(), *self.hits)

    def counts(self) -> list[float]:
        """The counts, as `resume` takes them."""
        return [self.pairs.hits, self.pairs.total]

    def resume(self, counts: Any) -> None:
        """Go on from counts that were kept."""
        hits, total = counts
        self.pairs = Counts(hits, total)

    def _bounds(self) -> Interval:
        if not self.criterion.both_ways:
            return rate(self.pairs, self.criterion.alpha)
        found = rate(self.pairs, self.criterion.alpha / 2)
        return Interval(2 * found.lower - 1, 2 * found.upper - 1)

    def _scaled(self, difference: float) -> float:
        return (difference + 1) / 2 if self.criterion.both_ways else difference
