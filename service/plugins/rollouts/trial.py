"""The tests of one stage of a release, and how the requests of several tenants decide it.

Let k be `Tenants.most_wrong`. Harm is confirmed if a test shows it without any k tenants, whichever
these are. So k tenants cannot cause a rollback by bad requests or ratings: the requests of the
others must show the harm too, at the error rate of ordinary tests.

Tenants may also hide harm by many harmless requests. Hidden harm is confirmed in two ways: each of
most tenants shows it by its own requests; or, at the end of a stage, the rule above confirms it
without the tenants that hide it. Both ways need more evidence, because they select among tenants.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Generic

from service.plugins.rollouts.comparison import ByTenant, Counted, Each, Tenants

_ALL = "errors"
"""The test in which each request counts."""
_OPEN, _HIDDEN, _OWN = 3 / 4, 1 / 8, 1 / 8
"""Parts of alpha with several tenants: harm in the open, hidden harm, and that of each alone."""
_HEAVY = 4
"""Number of groups, those with most requests, among which to look for tenants that hide harm."""
_DENIES_FROM = 20
"""Requests of each version that a group needs to deny harm that others' requests show."""
_LOOK_AGAIN = 1.05
"""A disputed stage is looked at again when its requests have grown by this factor."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a stage: a rollback for `harm`, else the next stage; `rule` is the reason.

    `seen` are findings of the golden examples, which are not one of the tests.
    """

    harm: bool
    rule: str
    tests: Sequence[Counted]
    seen: tuple[Mapping[str, Any], ...] = ()


class Trial(ABC, Generic[Each]):
    """The tests of a stage by name, which share the stage's part of alpha.

    `disputed` are tests that keep the stage open until more requests, or a person, decide. `spared`
    are tenants whose own requests have shown harm; they get the old version. `claimed` are tests on
    what tenants say (ratings): they can show harm, but never keep a stage open.
    """

    def __init__(
        self, tests: Iterable[Each], tenants: Tenants, claimed: Collection[str] = ()
    ) -> None:
        self._tests: dict[str, ByTenant[Each]] = {
            test.criterion.name: ByTenant(test) for test in tests
        }
        self._tenants = tenants
        self._claimed = claimed
        self._deciding: tuple[int, ...] = ()
        """The groups without which harm was not shown the last time."""
        self._look_from = 0.0
        self._unsent: dict[str, dict[str, Each]] | None = None
        """Observations by tenant and test that wait for a shared store; None without one."""
        self.disputed: tuple[str, ...] = ()
        self.spared = set[str]()

    @property
    @abstractmethod
    def answered(self) -> tuple[int, int]:
        """Judged requests of the old and of the new version."""

    @abstractmethod
    def _ended(self) -> Verdict | None:
        """The verdict if the stage may end now without harm in the open."""

    @property
    def shared(self) -> bool:
        """True if a store adds up the observations of all replicas."""
        return self._unsent is not None

    @property
    def tenants(self) -> Tenants:
        """The tenants whose requests are counted."""
        return self._tenants

    def blanks(self) -> dict[str, list[float]]:
        """The counts of each test without an observation, for `collect` and `resume`."""
        return {name: test.blank().counts() for name, test in self._tests.items()}

    def share_counts(self) -> None:
        """From now on hand observations out by `collect`, because a store adds up those of all
        replicas; they are judged by `look` once `resume` brings them back.
        """
        self._unsent = {}

    def collect(self) -> dict[str, dict[str, list[float]]]:
        """The observations since the last call, as counts by tenant and test."""
        assert self._unsent is not None
        unsent, self._unsent = self._unsent, {}
        return {
            tenant: {name: test.counts() for name, test in tests.items()}
            for tenant, tests in unsent.items()
        }

    def look(self) -> Verdict | None:
        """The verdict on the counts as they are.

        The evidence holds at any time, so it may be looked at as often as the store brings counts.
        May take some 100 ms for many labels and tenants: do not call it on an event loop.
        """
        return self._judged(list(self._tenants.names), list(self._tests)) or self._ended()

    def tests(self) -> list[Counted]:
        """Copies of all tests that have seen a request."""
        return [test.every.copy() for test in self._tests.values() if test.every.observed]

    def counts(self) -> dict[str, Any]:
        """The counts as JSON, for `resume`."""
        tests = {name: test.counts() for name, test in self._tests.items()}
        return {"tenants": self._tenants.kept(), "tests": tests}

    def resume(self, counts: Mapping[str, Any]) -> None:
        """Continue from stored counts, if they belong to the same tests."""
        tests = counts.get("tests", {})
        if tests.keys() == self._tests.keys():
            self._tenants.resume(counts["tenants"])
            for name, test in self._tests.items():
                test.resume(tests[name])
            if self._unsent is None:
                for tenant in self._tenants.names:
                    self._spare(tenant, tests)

    def _counted(self, name: str, tenant: str) -> Iterable[Each]:
        """The counts to which an observation of a tenant is added."""
        if self._unsent is None:
            return self._tests[name].of(self._tenants.group(tenant))
        tests = self._unsent.setdefault(tenant, {})
        if name not in tests:
            tests[name] = self._tests[name].blank()
        return (tests[name],)

    def _judged(self, tenants: Iterable[str], names: Sequence[str]) -> Verdict | None:
        """The rollback after requests of tenants, if a test in which they counted shows harm now.

        The rule is the first of these tests that shows it.
        """
        more = -math.log(_OPEN) if self._tenants.most_wrong else 0.0
        shown = [name for name in names if self._tests[name].every.harmful(more)]
        if shown and self._shown_by_others(more):
            return Verdict(True, shown[0], [self._tests[shown[0]].every.copy()])
        for tenant in tenants:
            own = self._spare(tenant, names)
            if own is not None and self._tenants.majority(self.spared):
                return Verdict(True, own.criterion.name, [own.copy()])
        return None

    def _end(self, rule: str) -> Verdict | None:
        """The verdict of a stage that has shown no harm in the open, unless a test is disputed."""
        if min(self.answered) < self._look_from:
            return None
        heavy, numbers = self._by_size()[:_HEAVY], range(self._tenants.most_wrong + 1)
        hiding = [groups for number in numbers for groups in combinations(heavy, number)]
        more = math.log(len(hiding) / _HIDDEN)
        for groups in hiding:
            for name, test in self._tests.items():
                if (rest := test.without(groups)).harmful(more):
                    if self._shown_by_others(more, groups):
                        return Verdict(True, name, [rest.copy()])
                    break
        self.disputed = tuple(
            name for name in self._tests if name not in self._claimed and self._split(name, hiding)
        )
        if self.disputed:
            self._look_from = min(self.answered) * _LOOK_AGAIN
            return None
        return Verdict(False, rule, self.tests())

    def _shown_by_others(self, more: float, apart: tuple[int, ...] = ()) -> bool:
        """True if harm is shown without the groups `apart` and any further `most_wrong` groups."""
        groups = [group for group in self._by_size() if group not in apart]
        choices = list(combinations(groups, min(self._tenants.most_wrong, len(groups))))
        if self._deciding in choices:
            choices.insert(0, self._deciding)
        for wrong in choices:
            rest = (test.without(apart + wrong) for test in self._tests.values())
            if not any(each.harmful(more) for each in rest):
                self._deciding = wrong
                return False
        return True

    def _by_size(self) -> list[int]:
        """The groups that may be left out, those with most requests first."""
        counted = self._tests[_ALL]
        return sorted(self._tenants.groups, key=lambda group: -counted.of(group)[1].size)

    def _split(self, name: str, hiding: Iterable[tuple[int, ...]]) -> bool:
        """True if a test shows harm, perhaps only without groups that hide it, and is not outvoted.

        The harm must not depend on unknown observations. A group affirms it if its own requests
        differ beyond the tolerance, even by chance, and denies it if enough of its requests do not.
        The test is outvoted if more groups deny than affirm.
        """
        test = self._tests[name]
        if not any(test.without(groups).surely_harmful for groups in hiding):
            return False
        affirming = sum(each.exceeds for each in test.each())
        denying = sum(each.reaches(_DENIES_FROM) and not each.exceeds for each in test.each())
        return affirming >= denying

    def _spare(self, tenant: str, names: Iterable[str]) -> Each | None:
        """Keep a tenant on the old version once a test of its group shows harm; that test."""
        if tenant in self.spared or not self._tenants.most_wrong:
            return None
        group, more = self._tenants.group(tenant), math.log(self._tenants.number / _OWN)
        for name in names:
            if (own := self._tests[name].own(group)) is not None and own.harmful(more):
                self.spared.add(tenant)
                return own
        return None
