"""Ratings of both versions, of which no tenant decides for the others."""

from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from service.releases.comparison import Arm, Comparison
from service.releases.sequential import Counts


@dataclass(slots=True)
class Ratings(Comparison):
    """Ratings of all tenants, 1 for a wrong answer.

    Once several tenants use the adapter, harm must also be shown without the ratings of any one of
    them: who rates in bad faith, or by a standard of its own, takes no version from the others.
    Those of a `trusted` tenant are enough. `users` are the tenants that have asked for the adapter,
    which their owner adds to.
    """

    trusted: Collection[str] = ()
    users: set[str] = field(default_factory=set)
    tenants: dict[str, Comparison] = field(default_factory=dict)

    def rate(self, tenant: str, arm: Arm, wrong: float) -> None:
        """Count a tenant's rating."""
        self.users.add(tenant)
        self.add(arm, wrong)
        self.tenants.setdefault(tenant, Comparison(self.criterion)).add(arm, wrong)

    @property
    def statistic(self) -> float:
        """Log of the least evidence for harm that there is without any one tenant."""
        return min(each.statistic for each in self._parts())

    @property
    def harmful(self) -> bool:
        """True if harm is shown without any one tenant."""
        return all(each.harmful for each in self._parts())

    def copy(self) -> "Ratings":
        """The ratings as they are now."""
        tenants = {name: each.copy() for name, each in self.tenants.items()}
        return replace(
            self,
            old=replace(self.old),
            new=replace(self.new),
            users=set(self.users),
            tenants=tenants,
        )

    def counts(self) -> Any:
        """The counts of each tenant, as `resume` takes them."""
        nothing = Comparison(self.criterion)
        return {name: self.tenants.get(name, nothing).counts() for name in sorted(self.users)}

    def resume(self, counts: Any) -> None:
        """Go on from counts that were kept, unless those are of all tenants together."""
        for name, kept in counts.items() if isinstance(counts, dict) else ():
            own = Comparison(self.criterion)
            own.resume(kept)
            self.users.add(name)
            if own.observed:
                self.tenants[name] = own
                self.old, self.new = _sum(self.old, own.old), _sum(self.new, own.new)

    def _parts(self) -> Iterator[Comparison]:
        """The comparisons that must all show harm; first those that lack the most ratings."""
        if len(self.users) > 1:
            for name in sorted(self.tenants.keys() - self.trusted, key=self._size, reverse=True):
                own = self.tenants[name]
                old, new = _sum(self.old, own.old, -1), _sum(self.new, own.new, -1)
                yield Comparison(self.criterion, old, new)
        yield Comparison(self.criterion, self.old, self.new)

    def _size(self, tenant: str) -> int:
        own = self.tenants[tenant]
        return own.old.total + own.new.total


def _sum(one: Counts, other: Counts, sign: int = 1) -> Counts:
    return Counts(one.hits + sign * other.hits, one.total + sign * other.total)
