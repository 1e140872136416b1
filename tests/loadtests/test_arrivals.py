"""Arrival processes against their theory."""

import numpy as np
import pytest
from scipy import stats

from loadtests.load.arrivals import Constant, Gamma, OnOff, Poisson, Process, Ramp, Steps


def gaps(process: Process, duration: float, seed: int = 7) -> np.ndarray:
    return np.diff(process.times(duration, np.random.default_rng(seed)))


def test_constant_is_even_and_fills_the_duration() -> None:
    times = Constant(rate=4).times(2.0, np.random.default_rng(0))
    assert times.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75]


def test_poisson_gaps_are_exponential() -> None:
    measured = gaps(Poisson(rate=5), 2000)
    assert stats.kstest(measured, "expon", args=(0, 1 / 5)).pvalue > 0.01


def test_poisson_counts_vary_as_much_as_their_mean() -> None:
    """Arrivals rescaled to fill the duration would have the same count in every run."""
    counts = [len(Poisson(rate=5).times(20, np.random.default_rng(seed))) for seed in range(400)]
    assert np.mean(counts) == pytest.approx(100, rel=0.03)
    assert np.var(counts) == pytest.approx(100, rel=0.25)


@pytest.mark.parametrize("cv", [0.5, 1.0, 2.0])
def test_gamma_gaps_follow_the_gamma_law(cv: float) -> None:
    measured = gaps(Gamma(rate=5, cv=cv), 2000)
    shape = cv**-2
    assert stats.kstest(measured, "gamma", args=(shape, 0, 1 / (5 * shape))).pvalue > 0.01


@pytest.mark.parametrize(("rate", "cv", "duty"), [(5.0, 2.0, 0.2), (2.57, 13.2, 0.1)])
def test_on_off_has_the_wanted_rate_and_variation(rate: float, cv: float, duty: float) -> None:
    measured = gaps(OnOff(rate=rate, cv=cv, duty=duty), 400_000 / rate, seed=3)
    assert 1 / measured.mean() == pytest.approx(rate, rel=0.05)
    assert measured.std() / measured.mean() == pytest.approx(cv, rel=0.05)


@pytest.mark.parametrize(("start", "end"), [(1.0, 9.0), (9.0, 1.0), (4.0, 4.0)])
def test_ramp_moves_linearly(start: float, end: float) -> None:
    times = Ramp(rate=start, to=end).times(1000, np.random.default_rng(5))
    counts, _ = np.histogram(times, bins=4, range=(0, 1000))
    middles = np.array([125, 375, 625, 875])
    expected = 250 * (start + (end - start) * middles / 1000)
    assert np.abs(counts - expected).max() < 4 * np.sqrt(expected.max())


def test_steps_hold_their_factors() -> None:
    times = Steps(rate=10, factors=(0.5, 1, 2)).times(600, np.random.default_rng(5))
    counts, _ = np.histogram(times, bins=3, range=(0, 600))
    assert counts == pytest.approx([1000, 2000, 4000], rel=0.1)


@pytest.mark.parametrize(
    "process",
    [
        Constant(rate=3),
        Poisson(rate=3),
        Gamma(rate=3, cv=2),
        OnOff(rate=3, cv=3),
        Ramp(rate=1, to=5),
    ],
)
def test_instants_rise_within_the_duration(process: Process) -> None:
    times = process.times(50, np.random.default_rng(1))
    assert np.all(np.diff(times) >= 0)
    assert times[0] >= 0
    assert times[-1] < 50


@pytest.mark.parametrize(
    "process", [Constant(rate=3), Poisson(rate=3), Ramp(rate=1, to=5), OnOff(rate=3, cv=3)]
)
def test_scaling_changes_the_rate(process: Process) -> None:
    base = len(process.times(3000, np.random.default_rng(1)))
    twice = len(process.scaled(2).times(3000, np.random.default_rng(1)))
    assert twice / base == pytest.approx(2, rel=0.25)
