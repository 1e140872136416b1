"""Logistic regression by Newton's method."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.classification.calibration import Array

RIDGE = 1.0
"""Weight of the penalty: half the sum of the squared weights of standardised measures, in nats.

It is a normal prior of deviation 1, and keeps weights finite where a measure separates the lines.
"""
_STEPS = 50


@dataclass(frozen=True, eq=False, slots=True)
class Logistic:
    """P(1 | x) = 1 / (1 + exp(-(intercept + weights . x))), with x not standardised."""

    intercept: float
    weights: Array

    def probs(self, rows: Array) -> Array:
        """The probabilities of rows, (rows, measures)."""
        return _sigmoid(self.intercept + rows @ self.weights)


def fit_logistic(rows: Array, right: npt.NDArray[np.bool_]) -> Logistic:
    """The map of least penalised log loss of rows, (rows, measures).

    A measure that never changes gets no weight.
    """
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.where(spread > 0, spread, 1.0)
    design = np.column_stack([np.ones(len(rows)), (rows - centre) / spread])
    penalty = np.diag([0.0] + [RIDGE] * rows.shape[1])
    # A smoothed rate keeps the intercept finite where all lines are right, or none.
    target = np.where(right, (right.sum() + 1) / (right.sum() + 2), 1 / ((~right).sum() + 2))
    found = np.zeros(design.shape[1])
    loss = _loss(design, target, penalty, found)
    for _ in range(_STEPS):
        probs = _sigmoid(design @ found)
        slope = design.T @ (probs - target) + penalty @ found
        curve = (design.T * (probs * (1 - probs))) @ design + penalty
        step, size = np.linalg.solve(curve, slope), 1.0
        while (tried := _loss(design, target, penalty, found - size * step)) > loss and size > 1e-6:
            size /= 2
        found, loss = found - size * step, tried
        if np.abs(size * step).max() < 1e-10:
            break
    weights = found[1:] / spread
    return Logistic(float(found[0] - weights @ centre), weights)


def log_loss(probs: Array, right: npt.NDArray[np.bool_]) -> float:
    """The mean of -log of the probability of each outcome, in nats; 0 counts as 1e-12."""
    of_outcome = np.where(right, probs, 1 - probs)
    return float(-np.log(np.clip(of_outcome, 1e-12, 1)).mean())


def _loss(design: Array, target: Array, penalty: Array, found: Array) -> float:
    score = design @ found
    return float((np.logaddexp(0, score) - target * score).sum() + found @ penalty @ found / 2)


def _sigmoid(score: Array) -> Array:
    small = np.exp(-np.abs(score))
    result: Array = np.where(score >= 0, 1, small) / (1 + small)
    return result
