"""How well confidence tells right answers from wrong ones: calibration error, risk, AUROC.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 2: M bins of equal
width, bin m holding the confidences in ((m - 1) / M, m / M].
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.classification.calibration import Array

BINS = 15


@dataclass(frozen=True, slots=True)
class ReliabilityBar:
    """The examples with a confidence in (lower, upper]: their mean confidence and accuracy."""

    lower: float
    upper: float
    count: int
    confidence: float
    accuracy: float


def reliability_bins(
    confidences: Array, correct: npt.NDArray[np.bool_], bins: int = BINS
) -> tuple[ReliabilityBar, ...]:
    """The bars of the reliability diagram, lowest first, without the empty bins.

    `confidences` are the probabilities of the predicted labels, `correct` whether each was true.
    Raises ValueError for arrays of unequal length, no examples, or values outside [0, 1].
    """
    if not len(confidences) or len(confidences) != len(correct):
        raise ValueError(f"{len(confidences)} confidences for {len(correct)} outcomes")
    if not ((confidences >= 0) & (confidences <= 1)).all():
        raise ValueError("confidences must be probabilities")
    edges = np.linspace(0, 1, bins + 1)
    places = np.searchsorted(edges[1:-1], confidences)
    diagram = []
    for place in np.unique(places):
        inside = places == place
        diagram.append(
            ReliabilityBar(
                lower=float(edges[place]),
                upper=float(edges[place + 1]),
                count=int(inside.sum()),
                confidence=float(confidences[inside].mean()),
                accuracy=float(correct[inside].mean()),
            )
        )
    return tuple(diagram)


def expected_calibration_error(
    confidences: Array, correct: npt.NDArray[np.bool_], bins: int = BINS
) -> float:
    """The mean of |accuracy - confidence| over the bins, weighted by their examples; 0 is best."""
    diagram = reliability_bins(confidences, correct, bins)
    gaps = (each.count * abs(each.accuracy - each.confidence) for each in diagram)
    return sum(gaps) / len(confidences)


def risk_coverage(confidences: Array, right: npt.NDArray[np.bool_]) -> tuple[Array, Array]:
    """Coverage k/n and the share of errors among the k most confident answers, for k = 1..n.

    Errors are averaged over answers of equal confidence, so that the order of lines does not
    matter.
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
