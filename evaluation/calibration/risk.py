"""Conformal risk control: a threshold below which answers are withheld.

Source: Angelopoulos, Bates, Fisch, Lei & Schuster 2024, "Conformal Risk Control", theorem 1, with
the loss "answered and wrong", which is at most 1 and falls as the threshold rises.
"""

import numpy as np
import numpy.typing as npt

from service.classification.calibration import Array


def risk_threshold(probs: Array, right: npt.NDArray[np.bool_], alpha: float) -> float | None:
    """The least probability to answer at, so that P(answered and wrong) is at most `alpha`.

    That is the least of `probs` and 0 for which (wrong answers at or above it + 1) / (n + 1) is at
    most alpha. It is None if there is none, as with fewer than 1 / alpha - 1 lines. The promise
    holds for lines like these, if none of these was used to fit the probabilities.
    """
    candidates = np.concatenate([[0.0], np.unique(probs)])
    wrong = np.sort(probs[~right])
    above = len(wrong) - np.searchsorted(wrong, candidates, "left")
    enough = candidates[(above + 1) / (len(probs) + 1) <= alpha]
    return float(enough[0]) if len(enough) else None


def least_abstention(base_risk: float, alpha: float) -> float:
    """The share that every rule must withhold if at most `alpha` of its answers are to be wrong.

    The best rule withholds wrong answers alone: (mu - a) / (1 - a) <= alpha for a share a, so that
    a >= (mu - alpha) / (1 - alpha).
    """
    return max(0.0, (base_risk - alpha) / (1 - alpha))
