"""The tenants that a share is kept for, and those that have requests now."""

from service.admission.queued_request import ActiveTenants
from service.tenants.tenant import SERVICE


def two() -> ActiveTenants:
    """A tenant of weight 3, which leaves at 100 s, and one of weight 1, which stays."""
    presence = ActiveTenants()
    presence.enter("leaves", 3.0)
    presence.enter("stays", 1.0)
    presence.tick(100.0)
    presence.leave("leaves")
    return presence


def test_who_left_keeps_its_share_but_is_not_active() -> None:
    presence = two()
    assert presence.share("stays", 1.0) == 0.25
    assert presence.due("stays", 1.0) == 1.0
    assert presence.due("leaves", 3.0) == 0.75


def test_who_has_been_away_for_half_a_minute_is_gone() -> None:
    presence = two()
    presence.tick(130.0)
    assert presence.tenants == 2
    presence.tick(130.1)
    assert presence.tenants == 1
    assert presence.share("stays", 1.0) == 1.0
    assert presence.share("comes", 1.0) == 0.5


def test_who_left_last_is_here_longest() -> None:
    presence = two()
    presence.tick(110.0)
    presence.leave("stays")
    presence.tick(131.0)
    assert presence.tenants == 1
    assert presence.share("comes", 1.0) == 0.5


def test_who_comes_back_in_time_stays() -> None:
    presence = two()
    presence.enter("leaves", 3.0)
    assert presence.due("stays", 1.0) == 0.25
    presence.tick(200.0)
    assert presence.tenants == 2


def test_a_tenant_leaves_with_its_last_request() -> None:
    presence = two()
    for _ in range(2):
        presence.enter("leaves", 3.0)
    presence.leave("leaves")
    assert presence.due("stays", 1.0) == 0.25


def test_who_leaves_before_any_time_passed_has_left_at_zero() -> None:
    presence = ActiveTenants()
    presence.enter("a", 1.0)
    presence.leave("a")
    presence.tick(30.0)
    assert presence.tenants == 1
    presence.tick(30.5)
    assert presence.tenants == 0


def test_the_service_keeps_no_share_after_its_own_requests() -> None:
    presence = ActiveTenants()
    presence.enter("stays", 1.0)
    presence.enter(SERVICE.name, 1.0)
    assert presence.share("stays", 1.0) == 0.5
    presence.leave(SERVICE.name)
    assert presence.tenants == 1
    assert presence.share("stays", 1.0) == 1.0
    assert presence.due("stays", 1.0) == 1.0
