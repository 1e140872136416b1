"""Distributions over answers, and their calibration by the prior of content-free prompts."""

import math
from dataclasses import dataclass

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


@dataclass(frozen=True, eq=False, slots=True)
class Calibration:
    """Divide by the content-free prior, then soften by the temperature, then renormalise.

    Dividing by the prior (`content_free_log_prior`) removes the model's preference before it has
    read any text, and may reorder the labels; the temperature (`fit_temperature`,
    fitted after it) makes confidence match accuracy and never reorders the labels.

    `log_prior` holds one log-probability per label, or for independent yes/no distributions one
    row per label. Raises ValueError for a temperature that is not finite and positive or a prior
    that is not finite.
    """

    temperature: float = 1.0
    log_prior: Array | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ValueError(f"temperature must be finite and above 0, got {self.temperature}")
        if self.log_prior is not None and not np.isfinite(self.log_prior).all():
            raise ValueError("log_prior must be finite: a prior of 0 cannot be divided by")

    def apply(self, log_probs: Array) -> Array:
        """The calibrated log-probabilities; the last axis is the alternatives."""
        prior = 0.0 if self.log_prior is None else self.log_prior
        return normalise((log_probs - prior) / self.temperature)


def content_free_log_prior(log_probs: Array) -> Array:
    """The prior of contextual calibration, from the label distributions of content-free inputs.

    `log_probs` has one row per content-free input (the paper averages "N/A", "[MASK]" and the
    empty string) and one column per label; the result is the log of the mean probability.

    Source: Zhao et al. 2021, "Calibrate Before Use", section 5: W = diag(p_cf)^-1, b = 0. The
    paper takes the softmax of W p; here W p is renormalised, which keeps the paper's order of the
    labels and is Bayes' rule with the model's prior replaced by a uniform one.
    """
    prior: Array = log_sum_exp(log_probs, axis=0)[0] - math.log(len(log_probs))
    return prior


MIN_TEMPERATURE = 0.05
MAX_TEMPERATURE = 20.0
_STEPS = 60  # halve the bracket in log T down to float precision


def fit_temperature(log_probs: Array, truth: npt.NDArray[np.intp]) -> float:
    """The temperature of the greatest likelihood, within [MIN_, MAX_TEMPERATURE].

    `log_probs` has one row per held-out example and one column per label, `truth` the index of each
    row's true label. If the likelihood has no optimum inside these bounds, the result is a bound:
    the upper one if the model is no better than chance.

    Of n examples each counts with (n + 1)/(n + 2) for its true label and with the rest for the
    likeliest other one. Otherwise a few examples, all of them right, would make T tend to 0 and
    each answer certain; so they make the mean confidence about (n + 1)/(n + 2).

    Source: Guo et al. 2017, "On Calibration of Modern Neural Networks", section 4.2: one scalar T,
    p = softmax(z / T). Here z are the log-probabilities of whole labels, so T acts on the label set
    and not on single tokens. The weights: Platt 1999, "Probabilistic Outputs for Support Vector
    Machines", section 2.2.

    In 1/T the likelihood is convex with derivative mean(E_p[z] - z_true), so its sign brackets the
    optimum. Raises ValueError for no examples or log-probabilities that are not finite.
    """
    if not len(log_probs) or not np.isfinite(log_probs).all():
        raise ValueError("fitting needs at least one example and finite log-probabilities")
    count = len(log_probs)
    right = np.take_along_axis(log_probs, truth[:, None], axis=-1)
    others = log_probs.copy()
    np.put_along_axis(others, truth[:, None], -np.inf, axis=-1)
    true = np.mean((count + 1) * right[:, 0] + others.max(axis=-1)) / (count + 2)
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(_STEPS):
        middle = (low + high) / 2
        softened = np.exp(normalise(log_probs / math.exp(middle)))
        expected = np.mean(np.sum(softened * log_probs, axis=-1))
        low, high = (low, middle) if expected < true else (middle, high)
    return math.exp((low + high) / 2)
