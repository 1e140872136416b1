"""Many samples of a Prometheus histogram, observed at once."""

from collections.abc import Sequence

import numpy as np
from prometheus_client import Histogram


def observe_all(histogram: Histogram, amounts: Sequence[float]) -> None:
    """Observe all amounts, without exemplars; takes a tenth of the time of as many `observe`."""
    histogram._sum.inc(sum(amounts))
    places = np.searchsorted(histogram._upper_bounds, amounts)
    for place, times in enumerate(np.bincount(places)):
        if times:
            histogram._buckets[place].inc(float(times))
