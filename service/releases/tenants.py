"""The counts of a test by tenant, so that those of some can be left out."""

from collections.abc import Collection, Iterable
from typing import Any, Generic, Protocol, Self, TypeVar

from service.releases.comparison import Criterion, Finding, Hits

GROUPS = 16
"""Most groups of tenants, each counted by itself."""
_TRUSTED = -1


class Counted(Protocol):
    """One respect in which the versions may differ, and the observations of it."""

    @property
    def criterion(self) -> Criterion: ...

    @property
    def observed(self) -> bool:
        """True once there is an observation."""

    @property
    def size(self) -> int:
        """Number of observations, known or not."""

    @property
    def exceeds(self) -> bool:
        """True if the observed difference is beyond the tolerance."""

    def reaches(self, least: int) -> bool:
        """True if there are at least so many observations."""

    @property
    def statistic(self) -> float:
        """Log of the evidence for harm."""

    def harmful(self, more: float = 0.0) -> bool:
        """True if harm is shown by `more` than the bound."""

    @property
    def surely_harmful(self) -> bool:
        """True if harm is shown whatever the unknown observations are."""

    @property
    def hits(self) -> tuple[Hits | None, Hits]:
        """Hits and requests of the old version, if it has a count of its own, and of the new."""

    def without(self, other: Self) -> Self:
        """The same without some of the observations."""

    def copy(self) -> Self:
        """The counts as they are now."""

    def finding(self) -> Finding:
        """The counts for a reader. Takes some milliseconds: do not call it on an event loop."""

    def counts(self) -> list[float]:
        """The counts as JSON, as `resume` takes them."""

    def resume(self, counts: Any) -> None:
        """Go on from counts that were kept."""


Each = TypeVar("Each", bound=Counted)


class Tenants:
    """The tenants of an adapter, in at most GROUPS groups, so that counts by group are few.

    The first tenants have a group each, and later ones join these in turn. Who is `trusted` is in a
    group that is never left out. `users` are all who have asked for the adapter, which their owner
    adds to.
    """

    def __init__(self, users: set[str], trusted: Collection[str] = ()) -> None:
        self._users = users
        self._trusted = trusted
        self._groups: dict[str, int] = {}

    @property
    def names(self) -> Collection[str]:
        """The tenants that have a group which may be left out."""
        return self._groups.keys()

    @property
    def groups(self) -> set[int]:
        """The groups that may be left out."""
        return set(self._groups.values())

    @property
    def most_wrong(self) -> int:
        """Number of tenants that together decide nothing: a minority, at most 2; 1 of two."""
        return 0 if self.number < 2 else 1 if self.number < 5 else 2

    @property
    def number(self) -> int:
        """Number of tenants that have asked for the adapter."""
        return len(self._users)

    def majority(self, tenants: Collection[str]) -> bool:
        """True if these are most of the tenants, of two both."""
        return 2 * len(tenants) > self.number

    def group(self, tenant: str) -> int:
        """The group of a tenant."""
        self._users.add(tenant)
        if tenant in self._trusted:
            return _TRUSTED
        return self._groups.setdefault(tenant, len(self._groups) % GROUPS)

    def kept(self) -> list[list[str]]:
        """The tenants as JSON, as `resume` takes them."""
        return [list(self._groups), sorted(self._users)]

    def resume(self, kept: Any) -> None:
        """Go on with tenants that were kept."""
        grouped, users = kept
        self._users.update(users)
        for tenant in grouped:
            self.group(tenant)


class ByTenant(Generic[Each]):
    """The observations of one test: of `every` tenant, and by group."""

    def __init__(self, every: Each) -> None:
        self._nothing = every.copy()
        self._groups: dict[int, Each] = {}
        self.every = every

    def of(self, group: int) -> tuple[Each, Each]:
        """The counts that an observation of a group belongs to."""
        if group not in self._groups:
            self._groups[group] = self._nothing.copy()
        return self.every, self._groups[group]

    def own(self, group: int) -> Each | None:
        """The counts of a group that may be left out."""
        return None if group == _TRUSTED else self._groups.get(group)

    def each(self) -> Collection[Each]:
        """The counts of every group."""
        return self._groups.values()

    def without(self, groups: Iterable[int]) -> Each:
        """The counts without those of some groups."""
        rest = self.every
        for group in groups:
            if (own := self._groups.get(group)) is not None:
                rest = rest.without(own)
        return rest

    def counts(self) -> Any:
        """The counts as JSON, as `resume` takes them."""
        groups = [[group, each.counts()] for group, each in self._groups.items()]
        return [self.every.counts(), groups]

    def resume(self, counts: Any) -> None:
        """Go on from counts that were kept."""
        every, groups = counts
        self.every.resume(every)
        for group, kept in groups:
            self.of(group)[1].resume(kept)
