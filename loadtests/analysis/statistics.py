"""Quantiles, which are reported only with enough samples, and confidence intervals."""

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

Values = NDArray[np.float64]

QUANTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
DRAWS = 400
_LEVEL = 0.95


class Distribution(BaseModel):
    """A metric's distribution; a quantile with too few requests behind it is null.

    `intervals` are 95% bootstrap intervals of the mean and of the quantiles that are stated.
    """

    model_config = ConfigDict(extra="forbid")

    samples: int
    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None
    intervals: dict[str, tuple[float, float]] = {}


def least_samples(q: float) -> int:
    """The fewest independent samples that give a distribution-free 95% interval of a q-quantile.

    With fewer, even the largest (or smallest) sample does not bound the quantile with 95%
    confidence: David and Nagaraja, Order Statistics, section 7.1. It is 6 for the median, 36 for
    p90, 72 for p95 and 368 for p99.
    """
    return math.ceil(math.log((1 - _LEVEL) / 2) / math.log(max(q, 1 - q)))


def describe(
    values: Values, clusters: NDArray[np.int64] | None = None, *, seed: int = 0
) -> Distribution:
    """The distribution of `values`, its quantiles linearly interpolated.

    The values of a cluster (the gaps of one request) count as one sample and are resampled
    together.
    """
    if len(values) == 0:
        return Distribution(samples=0)
    order = np.argsort(values, kind="stable")
    ranked = values[order]
    members = np.arange(len(values)) if clusters is None else clusters
    members = members[order]
    independent = len(np.unique(members))
    stated = {name: q for name, q in QUANTILES.items() if independent >= least_samples(q)}
    return Distribution(
        samples=len(values),
        mean=float(values.mean()),
        max=float(ranked[-1]),
        intervals=_intervals(ranked, members, stated, np.random.default_rng(seed)),
        **{name: float(np.quantile(ranked, q)) for name, q in stated.items()},
    )


def ratio_interval(hits: int, total: int) -> tuple[float, float]:
    """A 95% interval of hits/total (Wilson, 1927), which is not degenerate at 0 and 1."""
    z = NormalDist().inv_cdf((1 + _LEVEL) / 2)
    ratio, spread = hits / total, z**2 / total
    middle = ratio + spread / 2
    half = math.sqrt(spread * (ratio * (1 - ratio) + spread / 4))
    low, high = ((middle + edge) / (1 + spread) for edge in (-half, half))
    return max(low, 0.0), min(high, 1.0)


def _intervals(
    ranked: Values,
    members: NDArray[np.int64],
    quantiles: dict[str, float],
    rng: np.random.Generator,
) -> dict[str, tuple[float, float]]:
    """Poisson bootstrap over clusters: each counts Poisson(1) times in a draw.

    A quantile's interval is that of the share of values below the quantile, converted to values of
    the sample (Woodruff, 1952). So a draw needs one number for each cluster, not for each value.
    """
    _, clusters = np.unique(members, return_inverse=True)
    count = int(clusters.max()) + 1
    if count < 2:
        return {}
    total = len(ranked)
    parts = [np.bincount(clusters, minlength=count), np.bincount(clusters, ranked, count)]
    for q in quantiles.values():
        parts.append(np.bincount(clusters[: round(q * total)], minlength=count))
    drawn = _draw(np.stack(parts, axis=1), rng)
    low, high = np.quantile(
        drawn[:, 1:] / drawn[:, :1], [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], axis=0
    )
    found = {"mean": (float(low[0]), float(high[0]))}
    for position, (name, q) in enumerate(quantiles.items(), 1):
        shares = np.clip([2 * q - high[position], 2 * q - low[position]], 0, 1)
        below, above = np.quantile(ranked, shares)
        found[name] = (float(below), float(above))
    return found


def _draw(parts: Values, rng: np.random.Generator) -> Values:
    """DRAWS sums of the clusters' parts, each cluster taken Poisson(1) times."""
    sums = np.empty((DRAWS, parts.shape[1]))
    for draw in sums:
        weights = rng.poisson(1.0, len(parts))
        weights[0] += int(not weights.any())
        draw[:] = weights @ parts
    return sums
