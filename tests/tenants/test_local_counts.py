"""Counts of one process: what the store told, what it was not told, and no window for ever."""

from service.tenants.quota_store import LocalCounts, Window
from service.tenants.tenant import Quota

WINDOW = Window(Quota("tokens", 100, 60), "{t}/tokens/60/1", ends=120.0)


class Clock:
    """Seconds that a test moves."""

    now = 60.0

    def __call__(self) -> float:
        return self.now


def test_counting_goes_on_from_what_the_store_told() -> None:
    counts = LocalCounts(Clock())
    assert counts.confirm(WINDOW, counts.send(WINDOW), 40) == 40
    assert counts.add(WINDOW, 5) == 45
    assert counts.send(WINDOW) == 5
    assert counts.add(WINDOW, 2) == 47
    counts.keep(WINDOW, 5)
    assert counts.add(WINDOW, 1) == 48


def test_what_is_on_its_way_to_the_store_is_sent_once_and_counts() -> None:
    counts = LocalCounts(Clock())
    counts.add(WINDOW, 5)
    sent = counts.send(WINDOW)
    assert (sent, counts.send(WINDOW)) == (5, 0)
    assert counts.confirm(WINDOW, 0, 10) == 15  # an answer that was given before it arrived
    assert counts.confirm(WINDOW, sent, 16) == 16


def test_a_window_is_forgotten_after_its_end() -> None:
    clock = Clock()
    counts = LocalCounts(clock)
    counts.add(WINDOW, 5)
    later = Window(WINDOW.quota, "{t}/tokens/60/9", ends=600.0)
    clock.now = 540.0
    assert counts.confirm(later, 0, 1) == 1
    assert counts.count_unconfirmed(WINDOW) == 0
