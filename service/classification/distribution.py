"""Log-probability distributions over labels: the last axis is the labels."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


def log_sum_exp(values: Array, axis: int = -1) -> Array:
    """log(sum(exp(values))) along `axis`, which is kept with length one; nothing overflows."""
    total: Array = np.logaddexp.reduce(values, axis=axis, keepdims=True)
    return total


def normalise(log_weights: Array) -> Array:
    """The log-probabilities proportional to `log_weights`; -inf stays a probability of zero.

    Raises ValueError for NaN, +inf, and a row of only -inf, which is no distribution.
    """
    defined = (log_weights < np.inf).all()  # NaN is not below it
    if not defined or not np.isfinite(total := log_sum_exp(log_weights)).all():
        raise ValueError("log-weights must not be NaN or +inf, nor all be -inf")
    normalised: Array = log_weights - total
    return normalised


def label_log_probs(rows: Array, *, multi_label: bool) -> Array:
    """One log-probability for each label, [labels].

    `rows` are [1, labels]; with `multi_label` [labels, 2], the yes before the no of each label.
    """
    found: Array = rows[:, 0] if multi_label else rows[0]
    return found
