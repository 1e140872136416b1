"""The search against knees that are known."""

import numpy as np
import pytest

from loadtests.analysis.objectives import Limits, Objectives
from loadtests.load.arrivals import Poisson
from loadtests.search import RunFailed, find_knee
from tests.loadtests.records import record

SLO = Objectives(name="slo", goodput=0.95, limits=Limits(e2e_ms=500))


def queue_passes(rate: float, served_per_s: float, requests: int = 60_000) -> bool:
    """One server, Poisson arrivals, exponential service, first come first served (M/M/1)."""
    rng = np.random.default_rng(11)
    due = Poisson(rate=rate).times(requests / rate, rng)
    work = rng.exponential(1 / served_per_s, len(due))
    free = 0.0
    good = 0
    for at, needed in zip(due, work, strict=True):
        free = max(free, at) + needed
        good += SLO.met(record(due=at, sent=at, e2e=free - at, chunks=[], completion_tokens=0))
    return good >= SLO.goodput * len(due)


@pytest.mark.parametrize("start", [1.0, 13.0, 100.0])
def test_a_sharp_knee_is_bracketed(start: float) -> None:
    knee = find_knee(lambda rate: rate <= 13.7, start, precision=0.05)
    assert knee.passed is not None
    assert knee.failed is not None
    assert knee.passed <= 13.7 < knee.failed
    assert knee.failed / knee.passed <= 1.05
    assert len(knee.probes) <= 14


def test_the_knee_of_a_queue_is_found_within_five_percent() -> None:
    """P(sojourn > t) = exp(-(mu - rate) t), so 95% within 0.5 s holds up to mu - ln(20)/0.5."""
    served_per_s = 20.0
    knee = find_knee(lambda rate: queue_passes(rate, served_per_s), start=4.0, precision=0.03)
    assert knee.passed is not None
    assert knee.passed == pytest.approx(served_per_s - np.log(20) / 0.5, rel=0.05)


def test_a_server_that_never_passes_has_no_knee() -> None:
    knee = find_knee(lambda rate: False, start=8.0)
    assert knee.passed is None
    assert len(knee.probes) == 9


def test_a_probe_that_cannot_be_used_ends_the_search_with_what_was_found() -> None:
    def passes(rate: float) -> bool:
        if rate > 5:
            raise RunFailed(f"at {rate:g}: a worker was busy")
        return True

    knee = find_knee(passes, start=2.0)
    assert (knee.passed, knee.failed, knee.stopped) == (4.0, None, "at 8: a worker was busy")
    assert knee.probes == [(2.0, True), (4.0, True)]


def test_a_server_that_always_passes_is_not_asked_for_ever() -> None:
    knee = find_knee(lambda rate: True, start=1.0)
    assert knee.failed is None
    assert knee.passed == 2.0**16
