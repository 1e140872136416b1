"""Evidence about one or two Bernoulli rates; it may be looked at after every observation.

The evidence against "the new rate exceeds the old one by at most m" is a mixture likelihood ratio:
the probability of the data under independent Beta(1/2, 1/2) priors on both rates, divided by the
largest probability of the data under that hypothesis. With the true rates in the denominator the
ratio would be the product of two test martingales, one for each version, whatever the order and
number of their requests; the largest probability makes the denominator larger, and so the ratio
smaller. So if the hypothesis holds, the probability that the ratio ever reaches 1 / alpha is at
most alpha (Ville's inequality).

Observations may be any numbers in [0, 1], whose mean then takes the rate's place: a likelihood
ratio of Bernoulli rates is convex in each observation, so its expectation at the true mean is at
most that of a Bernoulli observation, which is 1 (Hoeffding 1963, "Probability inequalities for sums
of bounded random variables"; Waudby-Smith, Ramdas 2023, "Estimating means of bounded random
variables by betting").

Robbins 1970, "Statistical methods related to the law of the iterated logarithm" (the mixture);
Johari, Koomen, Pekelis, Walsh 2017, "Peeking at A/B tests" (mixture SPRT, always-valid p-values);
Wasserman, Ramdas, Balakrishnan 2020, "Universal inference" (the supremum over the hypothesis);
Howard, Ramdas, McAuliffe, Sekhon 2021, "Time-uniform, nonparametric, nonasymptotic confidence
sequences" (the bounds: the differences that the evidence does not refute).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

_HALVINGS = 40
_LEAST = 1e-12
_BETA_HALF = math.log(math.pi)  # log of the beta function at (1/2, 1/2)


@dataclass(slots=True)
class Counts:
    """Observations of one version: `hits` of `total` showed the event that is tested.

    `hits` is the sum of observations in [0, 1], most of which are 0 or 1. The outcome of `unknown`
    further requests is not known, because they still run or because their client disconnected. The
    evidence ignores them; `most` counts them as hits, and `least` as misses.
    """

    hits: float = 0
    total: int = 0
    unknown: int = 0

    def add(self, hit: float | None, times: int = 1) -> None:
        """Count an observation, None if unknown; `times` of -1 removes it again."""
        if hit is None:
            self.unknown += times
        else:
            self.hits += times * hit
            self.total += times

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(
            self.hits - other.hits, self.total - other.total, self.unknown - other.unknown
        )

    @property
    def rate(self) -> float:
        """Share of hits; 0 without observations."""
        return self.hits / self.total if self.total else 0.0

    @property
    def requests(self) -> int:
        """Observations, known or not."""
        return self.total + self.unknown

    @property
    def most(self) -> "Counts":
        """The counts if all unknown outcomes were hits."""
        return Counts(self.hits + self.unknown, self.requests)

    @property
    def least(self) -> "Counts":
        """The counts if all unknown outcomes were misses."""
        return Counts(self.hits, self.requests)

    @property
    def mirrored(self) -> "Counts":
        """The same known observations with hits and misses exchanged."""
        return Counts(self.total - self.hits, self.total)


@dataclass(frozen=True, slots=True)
class Interval:
    """Bounds of a rate, or of the new rate minus the old one."""

    lower: float
    upper: float


def evidence_over(counts: Counts, most: float) -> float:
    """Log of the evidence against the hypothesis that the rate is at most `most`, in [0, 1]."""
    rate = min(counts.rate, most)
    misses = counts.total - counts.hits
    return _mixture(counts) - _log(counts.hits, rate) - _log(misses, 1 - rate)


def evidence_under(counts: Counts, least: float) -> float:
    """Log of the evidence against the hypothesis that the rate is at least `least`, in [0, 1]."""
    return evidence_over(counts.mirrored, 1 - least)


def evidence_above(old: Counts, new: Counts, margin: float) -> float:
    """Log of the evidence against "the new rate exceeds the old one by at most `margin`".

    `margin` is in (-1, 1). The evidence falls as the margin grows.
    """
    if new.rate - old.rate <= margin:
        return min(0.0, _mixture(old) + _mixture(new) - _likelihood(old) - _likelihood(new))
    return _mixture(old) + _mixture(new) - _constrained(old, new, margin)


def evidence_below(old: Counts, new: Counts, margin: float) -> float:
    """Log of the evidence against "the new rate exceeds the old one by at least `margin`"."""
    return evidence_above(old.mirrored, new.mirrored, -margin)


def difference(old: Counts, new: Counts, alpha: float) -> Interval:
    """Bounds of the difference; the probability that they are ever wrong is at most `alpha`."""
    return Interval(_lower(old, new, alpha), -_lower(old.mirrored, new.mirrored, alpha))


def rate(counts: Counts, alpha: float) -> Interval:
    """Bounds of one rate, with the same guarantee as those of `difference`."""
    return Interval(_least(counts, alpha), 1 - _least(counts.mirrored, alpha))


def _lower(old: Counts, new: Counts, alpha: float) -> float:
    """The largest margin that the evidence refutes; -1 if it refutes none."""
    high = new.rate - old.rate
    return _largest(-1.0, high, alpha, lambda margin: evidence_above(old, new, margin))


def _least(counts: Counts, alpha: float) -> float:
    """The largest rate that the evidence refutes; 0 if it refutes none."""
    return _largest(0.0, counts.rate, alpha, lambda most: evidence_over(counts, most))


def _largest(low: float, high: float, alpha: float, evidence: Callable[[float], float]) -> float:
    """The largest refuted value between `low` and `high`; the evidence falls as the value grows."""
    needed = -math.log(alpha)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if evidence(middle) >= needed:
            low = middle
        else:
            high = middle
    return low


def _mixture(counts: Counts) -> float:
    hits, misses = counts.hits, counts.total - counts.hits
    return (
        math.lgamma(hits + 0.5)
        + math.lgamma(misses + 0.5)
        - math.lgamma(counts.total + 1)
        - _BETA_HALF
    )


def _likelihood(counts: Counts) -> float:
    """The largest log-likelihood of one version."""
    return _log(counts.hits, counts.rate) + _log(counts.total - counts.hits, 1 - counts.rate)


def _constrained(old: Counts, new: Counts, margin: float) -> float:
    """The largest log-likelihood under new = old + margin, for data that exceed the margin.

    The log-likelihood is concave in the old rate, so bisection finds where its slope is 0.
    """
    old_misses, new_misses = old.total - old.hits, new.total - new.hits
    low, high = max(0.0, -margin), min(1.0, 1.0 - margin)
    for _ in range(_HALVINGS):
        rate = (low + high) / 2
        slope = (
            _slope(old.hits, rate)
            - _slope(old_misses, 1 - rate)
            + _slope(new.hits, rate + margin)
            - _slope(new_misses, 1 - rate - margin)
        )
        if slope > 0:
            low = rate
        else:
            high = rate
    rate = (low + high) / 2
    return (
        _log(old.hits, rate)
        + _log(old_misses, 1 - rate)
        + _log(new.hits, rate + margin)
        + _log(new_misses, 1 - rate - margin)
    )


def _slope(times: float, probability: float) -> float:
    """Derivative of `_log`."""
    return times / max(probability, _LEAST)


def _log(times: float, probability: float) -> float:
    """`times` the log of a probability; 0 of nothing is 0."""
    return times * math.log(max(probability, _LEAST)) if times else 0.0
