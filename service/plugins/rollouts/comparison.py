"""Comparison of two versions by one criterion; valid after any number of requests."""

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Generic, Literal, TypeVar

from service.plugins.rollouts.sequential import (
    Counts,
    Interval,
    difference,
    evidence_above,
    evidence_below,
    evidence_over,
    evidence_under,
    rate,
)

Arm = Literal["old", "new"]
"""The version that answered: the one that the name stands for, or its successor."""

Hits = tuple[float, int]
"""Hits and requests of a version."""


@dataclass(frozen=True, slots=True)
class Criterion:
    """A share of requests that may grow by up to `tolerance`; with `both_ways` also shrink.

    `alpha` bounds the probability that the test reports harm although there is none.
    """

    name: str
    tolerance: float
    alpha: float
    both_ways: bool = False

    @property
    def bound(self) -> float:
        """The log of the evidence from which harm counts as shown."""
        return math.log((2 if self.both_ways else 1) / self.alpha)


@dataclass(frozen=True, slots=True)
class Finding:
    """A criterion and what the requests say about it.

    `statistic` is the log of the evidence for harm; harm is shown once it reaches `bound`. The true
    difference, new minus old, lies between `lower` and `upper`; the probability that a bound is
    wrong at any time is at most alpha. `old` and `new` are hits and requests. If both versions got
    the same requests, `new` counts those in which they differ, and `old` is None.
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
        """Count an observation in [0, 1], None if unknown; `times` of -1 removes it again."""
        (self.new if arm == "new" else self.old).add(hit, times)

    @property
    def observed(self) -> bool:
        """True once either version has an observation."""
        return bool(self.old.total + self.new.total)

    @property
    def size(self) -> int:
        """Number of requests of both versions."""
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
        """True if the evidence for harm reaches the bound plus `more`."""
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
        """The comparison after these counts are subtracted."""
        return Comparison(self.criterion, self.old - other.old, self.new - other.new)

    def copy(self) -> "Comparison":
        """The comparison as it is now."""
        return Comparison(self.criterion, replace(self.old), replace(self.new))

    @property
    def hits(self) -> tuple[Hits | None, Hits]:
        """Hits and requests of the old and of the new version."""
        return (self.old.hits, self.old.total), (self.new.hits, self.new.total)

    def finding(self) -> Finding:
        """The finding to report.

        Takes some milliseconds: do not call it on an event loop.
        """
        sides = 2 if self.criterion.both_ways else 1
        bounds = difference(self.old, self.new, self.criterion.alpha / sides)
        return Finding.of(self.criterion, self.statistic, bounds, *self.hits)

    def counts(self) -> list[float]:
        """The counts as JSON, for `resume`."""
        old, new = self.old, self.new
        return [old.hits, old.total, old.unknown, new.hits, new.total, new.unknown]

    def resume(self, counts: Any) -> None:
        """Continue from stored counts."""
        self.old, self.new = Counts(*counts[:3]), Counts(*counts[3:])

    def _evidence(self, above: "Comparison", below: "Comparison") -> float:
        """Log of the evidence for a rise, from `above`, or, if larger, for a fall, from `below`."""
        margin = self.criterion.tolerance
        found = evidence_above(above.old, above.new, margin)
        if not self.criterion.both_ways:
            return found
        return max(found, evidence_below(below.old, below.new, -margin))


@dataclass(slots=True)
class Agreement:
    """Disagreements about requests that both versions got, each in [0, 1].

    A pair of answers to one request is one observation, and the mean over pairs is compared with
    the tolerance. With the criterion's `both_ways` an observation is in [-1, 1], and `counts`
    stores it scaled to [0, 1].
    """

    criterion: Criterion
    pairs: Counts = field(default_factory=Counts)

    def add(self, difference: float) -> None:
        """Count the difference between a pair of answers."""
        self.pairs.add(self._scaled(difference))

    @property
    def observed(self) -> bool:
        """True once a pair of answers was counted."""
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
        """Number of pairs."""
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
        """True if the evidence for harm reaches the bound plus `more`."""
        return self.statistic >= self.criterion.bound + more

    @property
    def surely_harmful(self) -> bool:
        """True if harm is shown."""
        return self.harmful()

    def without(self, other: "Agreement") -> "Agreement":
        """The agreement after these pairs are subtracted."""
        return Agreement(self.criterion, self.pairs - other.pairs)

    def copy(self) -> "Agreement":
        """The agreement as it is now."""
        return Agreement(self.criterion, replace(self.pairs))

    @property
    def hits(self) -> tuple[Hits | None, Hits]:
        """None in the old version's place, then the sum over the pairs and their number."""
        sum_ = self.pairs.hits
        if self.criterion.both_ways:
            sum_ = 2 * sum_ - self.pairs.total
        return None, (round(sum_, 3), self.pairs.total)

    def finding(self) -> Finding:
        """The finding to report; `new` is the sum over the pairs and their number."""
        return Finding.of(self.criterion, self.statistic, self._bounds(), *self.hits)

    def counts(self) -> list[float]:
        """The counts as JSON, for `resume`."""
        return [self.pairs.hits, self.pairs.total]

    def resume(self, counts: Any) -> None:
        """Continue from stored counts."""
        hits, total = counts
        self.pairs = Counts(hits, total)

    def _bounds(self) -> Interval:
        if not self.criterion.both_ways:
            return rate(self.pairs, self.criterion.alpha)
        found = rate(self.pairs, self.criterion.alpha / 2)
        return Interval(2 * found.lower - 1, 2 * found.upper - 1)

    def _scaled(self, difference: float) -> float:
        return (difference + 1) / 2 if self.criterion.both_ways else difference


Counted = Comparison | Agreement
"""The observations of one test."""
Each = TypeVar("Each", Comparison, Agreement)

GROUPS = 16
"""Most groups of tenants, each counted by itself."""
_TRUSTED = -1


class Tenants:
    """The tenants of an adapter, in at most GROUPS groups, which bounds the number of counts.

    The first tenants have a group each, and later ones join these groups in turn. Tenants in
    `trusted` share a group that is never left out. `users` are all tenants that have asked for the
    adapter; the caller may add to this set later.
    """

    def __init__(self, users: set[str], trusted: Collection[str] = ()) -> None:
        self._users = users
        self._trusted = trusted
        self._groups: dict[str, int] = {}

    @property
    def trusted(self) -> Collection[str]:
        """The tenants whose group is never left out."""
        return self._trusted

    @property
    def names(self) -> Collection[str]:
        """The tenants whose group may be left out."""
        return self._groups.keys()

    @property
    def groups(self) -> set[int]:
        """The groups that may be left out."""
        return set(self._groups.values())

    @property
    def most_wrong(self) -> int:
        """At most so many tenants must not decide alone: 0 of one, 1 of two to four, else 2."""
        return 0 if self.number < 2 else 1 if self.number < 5 else 2

    @property
    def number(self) -> int:
        """Number of tenants that have asked for the adapter."""
        return len(self._users)

    def majority(self, tenants: Collection[str]) -> bool:
        """True if this is more than half of all tenants."""
        return 2 * len(tenants) > self.number

    def group(self, tenant: str) -> int:
        """The group of a tenant."""
        self._users.add(tenant)
        if tenant in self._trusted:
            return _TRUSTED
        return self._groups.setdefault(tenant, len(self._groups) % GROUPS)

    def kept(self) -> list[list[str]]:
        """The tenants as JSON, for `resume`."""
        return [list(self._groups), sorted(self._users)]

    def resume(self, kept: Any) -> None:
        """Continue with stored tenants, in their groups."""
        grouped, users = kept
        self._groups.clear()
        self._users.update(users)
        for tenant in grouped:
            self.group(tenant)


class ByTenant(Generic[Each]):
    """The observations of one test: in total (`every`), and by group of tenants."""

    def __init__(self, every: Each) -> None:
        self._nothing: Each = every.copy()
        self._groups: dict[int, Each] = {}
        self.every: Each = every

    def of(self, group: int) -> tuple[Each, Each]:
        """The counts to which an observation of a group is added: the total and the group's."""
        if group not in self._groups:
            self._groups[group] = self.blank()
        return self.every, self._groups[group]

    def blank(self) -> Each:
        """Counts of this test without an observation."""
        return self._nothing.copy()

    def own(self, group: int) -> Each | None:
        """The counts of a group; None for the group of trusted tenants, which is never left out."""
        return None if group == _TRUSTED else self._groups.get(group)

    def each(self) -> Collection[Each]:
        """The counts of every group."""
        return self._groups.values()

    def without(self, groups: Iterable[int]) -> Each:
        """The total counts without those of some groups."""
        rest: Each = self.every
        for group in groups:
            if (own := self._groups.get(group)) is not None:
                rest = rest.without(own)
        return rest

    def counts(self) -> Any:
        """The counts as JSON, for `resume`."""
        groups = [[group, each.counts()] for group, each in self._groups.items()]
        return [self.every.counts(), groups]

    def resume(self, counts: Any) -> None:
        """Continue from stored counts."""
        every, groups = counts
        self._groups.clear()
        self.every.resume(every)
        for group, kept in groups:
            self.of(group)[1].resume(kept)
