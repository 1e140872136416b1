"""Thresholds with a statistical guarantee, for label sets and guards, from held-out examples.

Label sets contain the true label as often as promised. Source: Angelopoulos & Bates 2021, "A Gentle
Introduction to Conformal Prediction and Distribution-Free Uncertainty Quantification", section 1,
with the score s = 1 - p(true label). If calibration and test examples are exchangeable, P(true
label in the set) is at least the coverage, and below coverage + 1/(n + 1) if no two scores tie.

If several labels may apply, each label has a threshold from the examples to which it applies, and
the promise holds for each label among these examples: label-conditional conformal prediction (Vovk
2012, "Conditional validity of inductive conformal predictors", section 3).

A guard's threshold is chosen so that few harmless texts reach it. The probability that a new score
exceeds the (k + 1)-th largest of n exchangeable scores is itself distributed as Beta(k + 1, n - k),
whatever the scores' distribution: it is above alpha with probability P(Binomial(n, alpha) <= k).
This is the bound of Clopper and Pearson (1934, "The use of confidence or fiducial limits") for k
flagged of n, and split conformal prediction conditional on its calibration set (Vovk 2012,
proposition 2a).
"""

import math
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from service.classification.calibration import Array


def conformal_threshold(true_probs: Array, coverage: float) -> float:
    """The lowest probability at which a label belongs to the set.

    `true_probs` are the calibrated probabilities of the true labels of n held-out examples, none of
    them used to fit the calibration. The threshold is 1 minus the ceil((n + 1) coverage)-th
    smallest score, that is, that many-th largest probability; 0 (every label) when n is too small
    to guarantee the coverage. Store it unrounded: a label that equals it belongs.

    Raises ValueError for a coverage outside (0, 1), no examples, or values that are no
    probabilities.
    """
    if not 0 < coverage < 1:
        raise ValueError(f"coverage must be between 0 and 1, got {coverage}")
    if not len(true_probs) or not ((true_probs >= 0) & (true_probs <= 1)).all():
        raise ValueError("true_probs must be probabilities of at least one example")
    # Exact fraction of the decimal number: in floats 100 * 0.55 is above 55 and would give 56.
    rank = math.ceil((len(true_probs) + 1) * Fraction(str(float(coverage))))
    if rank > len(true_probs):
        return 0.0
    return float(np.sort(true_probs)[len(true_probs) - rank])


def examples_needed(coverage: float) -> int:
    """The smallest number of held-out examples that gives a threshold above 0."""
    promised = Fraction(str(float(coverage)))
    return math.ceil(promised / (1 - promised))


def conformal_thresholds(
    probs: Array, applies: npt.NDArray[np.bool_], coverage: float
) -> tuple[float, ...]:
    """The lowest probability at which each label belongs to the set, from (examples, labels).

    A label that applies to too few examples gets 0, so every set contains it. Raises ValueError as
    `conformal_threshold`, but not for a label without examples.
    """
    return tuple(
        conformal_threshold(column[true], coverage) if true.any() else 0.0
        for column, true in zip(probs.T, applies.T, strict=True)
    )


def label_sets(probs: Array, least: float | tuple[float, ...]) -> npt.NDArray[np.bool_]:
    """Membership of each label in the set, in the shape of `probs`; a set may be empty.

    `least` is one threshold for all labels, or one for each.
    """
    return probs >= np.array(least)


def lines_needed(alpha: float, confidence: float) -> int:
    """The smallest number of harmless lines from which any threshold can be shown to hold."""
    return math.ceil(math.log1p(-confidence) / math.log1p(-alpha))


def most_flagged(lines: int, alpha: float, confidence: float) -> int | None:
    """How many of `lines` harmless lines may reach the threshold; None for too few lines.

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
    """The lowest threshold that at most a share `alpha` of harmless texts reaches.

    It holds with probability `confidence` for texts that are exchangeable with those of the scores;
    the scores must not have been used to fit anything else. It may be above 1 if scores tie at 1.
    Raises ValueError for fewer scores than `lines_needed`.
    """
    most = most_flagged(len(scores), alpha, confidence)
    if most is None:
        raise ValueError(f"{lines_needed(alpha, confidence)} scores are needed, got {len(scores)}")
    return math.nextafter(float(np.sort(scores)[len(scores) - 1 - most]), math.inf)
