"""Separation of right answers from wrong ones by confidence: risk by coverage, and AUROC."""

import numpy as np
import numpy.typing as npt

from service.classification.calibration import Array


def risk_coverage(confidences: Array, right: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """Coverage k/n and the share of errors among the k surest answers, for k = 1..n.

    Answers of equal confidence share their errors, so that the order of lines does not matter.
    """
    order = np.argsort(-confidences, kind="stable")
    _, group, counts = np.unique(-confidences, return_inverse=True, return_counts=True)
    shared = np.bincount(group, weights=~right) / counts
    number = np.arange(1, len(right) + 1)
    return number / len(right), np.cumsum(shared[group][order]) / number


def area(confidences: Array, right: npt.NDArray[np.bool_]) -> float:
    """The mean risk over all coverages (AURC; Geifman, Uziel and El-Yaniv 2019); 0 is best."""
    return float(risk_coverage(confidences, right)[1].mean())


def auroc(confidences: Array, right: npt.NDArray[np.bool_]) -> float:
    """P(a right answer's confidence exceeds a wrong one's), ties counting half.

    Raises ValueError unless there are both (Hanley and McNeil 1982).
    """
    hits, misses = np.sort(confidences[right]), np.sort(confidences[~right])
    if not len(hits) or not len(misses):
        raise ValueError("needs right answers and wrong ones")
    below = np.searchsorted(misses, hits, "left") + np.searchsorted(misses, hits, "right")
    return float(below.sum() / (2 * len(hits) * len(misses)))
