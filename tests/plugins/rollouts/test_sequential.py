"""Evidence about two rates: its bounds, its symmetry, and its error under every look."""

import math
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.plugins.rollouts.sequential import (
    Counts,
    difference,
    evidence_above,
    evidence_below,
    evidence_over,
    evidence_under,
    rate,
)


@st.composite
def counts(draw: st.DrawFn) -> Counts:
    total = draw(st.integers(0, 2_000))
    return Counts(draw(st.integers(0, total)), total)


MARGINS = st.floats(-0.99, 0.99)


@given(counts(), counts(), MARGINS)
def test_below_is_above_of_the_complement(old: Counts, new: Counts, margin: float) -> None:
    found = evidence_below(old, new, margin)
    assert math.isfinite(found)
    assert found == evidence_above(old.mirrored, new.mirrored, -margin)


@given(counts(), counts(), MARGINS, MARGINS)
def test_a_larger_margin_is_harder_to_exceed(old: Counts, new: Counts, a: float, b: float) -> None:
    low, high = sorted((a, b))
    assert evidence_above(old, new, low) >= evidence_above(old, new, high) - 1e-6


@given(counts(), counts())
def test_the_observed_difference_lies_within_its_bounds(old: Counts, new: Counts) -> None:
    found = difference(old, new, 0.05)
    assert -1 <= found.lower <= new.rate - old.rate + 1e-9
    assert new.rate - old.rate - 1e-9 <= found.upper <= 1


@given(counts(), counts(), st.floats(-0.9, 0.9))
def test_the_denominator_is_the_largest_likelihood_of_the_hypothesis(
    old: Counts, new: Counts, margin: float
) -> None:
    if new.rate - old.rate <= margin:
        assert evidence_above(old, new, margin) <= 0
        return
    found = evidence_above(old, new, margin)
    low, high = max(0.0, -margin), min(1.0, 1 - margin)
    for part in range(1, 20):
        rate = low + (high - low) * part / 20
        likelihood = _log_likelihood(old, rate) + _log_likelihood(new, rate + margin)
        # No rates that the hypothesis allows make the data more probable.
        assert found <= _log_mixture(old) + _log_mixture(new) - likelihood + 1e-6


@pytest.mark.parametrize(("old", "new"), [(0.1, 0.1), (0.02, 0.07), (0.5, 0.55)])
def test_harm_within_the_margin_is_seen_by_no_more_than_alpha(old: float, new: float) -> None:
    # 200 tests, each looked at after every request: at alpha 0.1, 20 are expected at most, and
    # 33 or more would happen with probability 0.003.
    margin, needed = 0.05, -math.log(0.1)
    draws = random.Random(7)
    seen = sum(_crosses(draws, old, new, margin, needed) for _ in range(200))
    assert seen < 33


def test_a_mean_at_the_tolerance_is_exceeded_by_no_more_than_alpha() -> None:
    # As above, for observations in [0, 1] whose mean is the tolerance, of three distributions.
    draws, needed = random.Random(8), -math.log(0.1)
    kinds: tuple[Callable[[], float], ...] = (
        lambda: float(draws.random() < 0.1),
        lambda: 0.2 * draws.random(),
        lambda: 0.5 * (draws.random() < 0.2),
    )
    for draw in kinds:
        seen = 0
        for _ in range(200):
            pairs = Counts()
            for _ in range(200):
                pairs.add(draw())
                if evidence_over(pairs, 0.1) >= needed:
                    seen += 1
                    break
        assert seen < 33


@given(counts(), st.floats(0.01, 0.99))
def test_the_observed_rate_lies_within_its_bounds(found: Counts, most: float) -> None:
    bounds = rate(found, 0.05)
    assert -1e-9 <= bounds.lower <= found.rate + 1e-9
    assert found.rate - 1e-9 <= bounds.upper <= 1 + 1e-9
    assert evidence_under(found, most) == evidence_over(found.mirrored, 1 - most)


def _crosses(draws: random.Random, old: float, new: float, margin: float, needed: float) -> bool:
    a, b = Counts(), Counts()
    for _ in range(200):
        if draws.random() < 0.3:
            b.add(draws.random() < new)
        else:
            a.add(draws.random() < old)
        if evidence_above(a, b, margin) >= needed:
            return True
    return False


def _log_likelihood(counts: Counts, rate: float) -> float:
    return counts.hits * math.log(rate) + (counts.total - counts.hits) * math.log(1 - rate)


def _log_mixture(counts: Counts) -> float:
    """Probability under the prior by its sequence of predictions (Krichevsky-Trofimov)."""
    hits, misses = int(counts.hits), counts.total - int(counts.hits)
    log = sum(math.log((i + 0.5) / (i + 1)) for i in range(hits))
    return log + sum(math.log((i + 0.5) / (hits + i + 1)) for i in range(misses))
