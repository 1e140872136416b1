"""Observes many samples of a Prometheus histogram at once; counts events by the second."""

import time
from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from prometheus_client import Histogram


def observe_all(histogram: Histogram, amounts: Sequence[float]) -> None:
    """Observe all amounts, without exemplars; takes a tenth of the time of as many `observe`."""
    histogram._sum.inc(sum(amounts))
    places = np.searchsorted(histogram._upper_bounds, amounts)
    for place, times in enumerate(np.bincount(places)):
        if times:
            histogram._buckets[place].inc(float(times))


class PerSecond:
    """Counts events by name; in each second the first `most` events of a name pass."""

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
