"""Thresholds that few harmless texts reach, shown by held-out ones.

Of n exchangeable scores the (k + 1)-th largest is exceeded by a further one with a probability
that is itself distributed as Beta(k + 1, n - k), whatever the scores' distribution: it is above
alpha with probability P(Binomial(n, alpha) <= k). This is the bound of Clopper and Pearson (1934,
"The use of confidence or fiducial limits") for k flagged of n, and split conformal prediction
conditional on its calibration set: Vovk 2012, "Conditional validity of inductive conformal
predictors", proposition 2a.
"""

import math

import numpy as np

from service.classification.calibration import Array


def lines_needed(alpha: float, confidence: float) -> int:
    """The least number of harmless lines with which any threshold is shown to hold."""
    return math.ceil(math.log1p(-confidence) / math.log1p(-alpha))


def most_flagged(lines: int, alpha: float, confidence: float) -> int | None:
    """Number of so many lines that may reach the threshold; None for fewer than are needed.

    That is the largest k with P(Binomial(lines, alpha) <= k) at most 1 - confidence.
    """
    found, total = None, 0.0
    for flagged in range(lines + 1):
        choices = math.lgamma(lines + 1) - math.lgamma(flagged + 1)
        choices -= math.lgamma(lines - flagged + 1)
        total += math.exp(
            choices + flagged * math.log(alpha) + (lines - flagged) * math.log1p(-alpha)
        )
        if total > 1 - confidence:
            break
        found = flagged
    return found


def bounded_threshold(scores: Array, alpha: float, confidence: float) -> float:
    """The least threshold that at most a share `alpha` of harmless texts reaches.

    It holds with this confidence for texts that are exchangeable with those of the scores, which
    fitted nothing else. It may be above 1, where the scores tie at 1. Raises ValueError for fewer
    scores than `lines_needed`.
    """
    most = most_flagged(len(scores), alpha, confidence)
    if most is None:
        raise ValueError(f"{lines_needed(alpha, confidence)} scores are needed, got {len(scores)}")
    return math.nextafter(float(np.sort(scores)[len(scores) - 1 - most]), math.inf)
