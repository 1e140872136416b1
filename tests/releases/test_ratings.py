"""Ratings by several tenants: harm is shown only where it is without any one of them."""

from collections.abc import Collection

import pytest

from service.releases.comparison import Criterion
from service.releases.ratings import Ratings

CRITERION = Criterion("wrong", 0.05, 0.001)


def ratings(users: Collection[str], trusted: Collection[str] = ()) -> Ratings:
    return Ratings(CRITERION, users=set(users), trusted=trusted)


def rated(found: Ratings, tenant: str, *, wrong: float, times: int = 30) -> None:
    """A tenant calls the old version right, and the next one wrong in this share."""
    for number in range(times):
        found.rate(tenant, "old", 0.0)
        found.rate(tenant, "new", float(number < wrong * times))


def test_a_tenant_of_its_own_decides_and_one_of_several_does_not() -> None:
    for users, harmful in (("a", True), ("ab", False)):
        found = ratings(users)
        rated(found, "a", wrong=1)
        assert found.harmful is harmful
        assert (found.statistic >= CRITERION.bound) is harmful
        assert found.hits == ((0, 30), (30, 30))


@pytest.mark.parametrize(("wrong", "harmful"), [(1, True), (0.6, True), (0, False)])
def test_several_tenants_decide_if_each_could_be_left_out(wrong: float, harmful: bool) -> None:
    found = ratings("abc")
    rated(found, "a", wrong=1, times=90)
    assert not found.harmful
    rated(found, "b", wrong=wrong)
    assert found.harmful is harmful


def test_a_trusted_tenant_decides_alone() -> None:
    for trusted, harmful in (((), False), (("b",), False), (("a",), True)):
        found = ratings("ab", trusted)
        rated(found, "a", wrong=1)
        assert found.harmful is harmful


def test_a_user_that_comes_later_counts_at_once() -> None:
    users = {"a"}
    found = Ratings(CRITERION, users=users)
    rated(found, "a", wrong=1)
    users.add("b")
    assert not found.harmful


def test_what_was_kept_goes_on_with_its_tenants() -> None:
    found, resumed = ratings("abc"), ratings("")
    rated(found, "a", wrong=1)
    rated(found, "b", wrong=0.1)
    resumed.resume(found.counts())
    assert resumed.users == {"a", "b", "c"}
    assert (resumed.old, resumed.new) == (found.old, found.new)
    assert resumed.statistic == found.statistic
    copied = resumed.copy()
    rated(resumed, "b", wrong=1)
    assert copied.statistic == found.statistic != resumed.statistic


def test_counts_without_tenants_are_not_taken_over() -> None:
    found = ratings("a")
    found.resume([0, 9, 9, 9])
    assert not found.observed
