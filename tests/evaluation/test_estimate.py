"""Estimates and bars, against known intervals."""

import numpy as np
import pytest

from evaluation.estimate import Bar, Estimate, Verdict, mean, resampled, share


@pytest.mark.parametrize(
    ("hits", "lines", "low", "high"),
    [
        (9, 10, 0.5958, 0.9821),
        (0, 10, 0.0, 0.2775),
        (10, 10, 0.7225, 1.0),
        (1, 29, 0.0061, 0.1718),  # Newcombe 1998, table I, method 3
        (81, 263, 0.2553, 0.3662),
    ],
)
def test_wilsons_interval(hits: int, lines: int, low: float, high: float) -> None:
    found = share(hits, lines)
    assert found.value == hits / lines
    assert found.low == pytest.approx(low, abs=6e-5)
    assert found.high == pytest.approx(high, abs=6e-5)


def test_the_bootstrap_of_a_mean_is_near_the_normal_interval_and_repeats() -> None:
    values = np.random.default_rng(1).normal(3, 2, 400)
    found = mean(values)
    half = 1.96 * values.std() / 20
    assert found.value == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)
    assert mean(values) == found


def test_a_paired_difference_is_surer_than_its_sides() -> None:
    draw = np.random.default_rng(2)
    before = draw.normal(0, 5, 200)
    after = before - 0.5 + draw.normal(0, 0.1, 200)
    found = mean(before - after)
    assert found.low > 0.4
    assert found.high < 0.6
    alone = resampled(lambda rows: float(before[rows].mean()), 200)
    assert alone.high - alone.low > 1


@pytest.mark.parametrize(
    ("bar", "value", "low", "high", "verdict"),
    [
        (">= 0.9", 0.95, 0.91, 0.98, "stands"),
        (">= 0.9", 0.95, 0.89, 0.98, "undecided"),
        (">= 0.9", 0.9, 0.9, 0.9, "stands"),
        (">= 0.9", 0.89, 0.85, 0.95, "fails"),
        ("<= 0.1", 0.05, 0.0, 0.1, "stands"),
        ("<= 0.1", 0.05, 0.0, 0.11, "undecided"),
        ("<= -0.5", 0.0, 0.0, 0.0, "fails"),
        ("within 0.1", -0.05, -0.09, 0.02, "stands"),
        ("within 0.1", -0.05, -0.12, 0.02, "undecided"),
        ("within 0.1", -0.2, -0.3, 0.1, "fails"),
        ("within 0.1", 0.2, 0.1, 0.3, "fails"),
    ],
)
def test_bars(bar: str, value: float, low: float, high: float, verdict: Verdict) -> None:
    assert Bar.of(bar).verdict(Estimate(value, low, high, 10, "Wilson")) == verdict
