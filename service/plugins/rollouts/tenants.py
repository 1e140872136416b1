"""The counts of a test by tenant, so that those of some can be left out."""

from collections.abc import Collection, Iterable
from typing import Any, Generic, TypeVar

from service.plugins.rollouts.agreement import Agreement
from service.plugins.rollouts.comparison import Comparison

Counted = Comparison | Agreement
"""The observations of one test."""
Each = TypeVar("Each", Comparison, Agreement)

GROUPS = 16
"""Most groups of tenants, each counted by itself."""
_TRUSTED = -1


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
        self._nothing: Each = every.copy()
        self._groups: dict[int, Each] = {}
        self.every: Each = every

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
        rest: Each = self.every
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
