"""Distance of confidence from accuracy: the reliability diagram and its summary.

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
    """The examples with a confidence in (lower, upper]: their mean confidence, their accuracy."""

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
