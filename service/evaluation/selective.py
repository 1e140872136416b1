"""Risk by coverage: the error among the answers that the model is surest of."""

import numpy as np
import numpy.typing as npt

from service.classification.distribution import Array


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
