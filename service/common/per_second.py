"""A bound on events of each second."""

import time
from collections import Counter
from collections.abc import Callable


class PerSecond:
    """Counts events by name, and tells the first few of a second from those after them."""

    def __init__(self, most: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._second = 0
        self._counts: Counter[str] = Counter()

    def allows(self, name: str) -> bool:
        """Count an event; True for the first `most` of this name in the present second."""
        if (second := int(self._clock())) != self._second:
            self._second = second
            self._counts.clear()
        self._counts[name] += 1
        return self._counts[name] <= self._most
