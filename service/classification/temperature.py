"""Temperature scaling.

Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2: one scalar T,
fitted by the negative log-likelihood of held-out examples, p = softmax(z / T). Here z are the log-
probabilities of whole labels, so T acts on the label set and not on single tokens.
"""

import math

import numpy as np
import numpy.typing as npt

from service.classification.calibration import Array, normalise

MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 20.0
_STEPS = 60  # halve the bracket in log T down to float precision


def fit_temperature(log_probs: Array, truth: npt.NDArray[np.intp]) -> float:
    """The temperature of least negative log-likelihood, within [MIN_, MAX_TEMPERATURE].

    `log_probs` has one row per held-out example and one column per label, `truth` the index of
    each row's true label. A bound is the answer where the likelihood has no optimum inside: the
    lower if every example is classified right (the best T tends to 0), the upper if the model
    knows no more than chance.

    In 1/T the likelihood is convex with derivative mean(E_p[z] - z_true), so its sign brackets
    the optimum. Raises ValueError for no examples or log-probabilities that are not finite.
    """
    if not len(log_probs) or not np.isfinite(log_probs).all():
        raise ValueError("fitting needs at least one example and finite log-probabilities")
    true = np.mean(np.take_along_axis(log_probs, truth[:, None], axis=-1))
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        softened = np.exp(normalise(log_probs / math.exp(middle)))
        expected = np.mean(np.sum(softened * log_probs, axis=-1))
        low, high = (low, middle) if expected < true else (middle, high)
    return math.exp((low + high) / 2)
