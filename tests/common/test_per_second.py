"""The bound on events of each second."""

from service.common.counting import PerSecond


def test_the_first_events_of_a_name_in_each_second_are_allowed() -> None:
    now = 7.2
    bound = PerSecond(2, lambda: now)
    assert [bound.allows("a") for _ in range(4)] == [True, True, False, False]
    assert bound.allows("b")
    now = 7.9
    assert not bound.allows("a")
    now = 8.0
    assert bound.allows("a")


def test_none_is_allowed_by_a_bound_of_none() -> None:
    assert not PerSecond(0).allows("a")
