"""The map from measures of an answer to its probability of being right, and its threshold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from service.adapters.confidence import (
    AgreementMap,
    ConfidenceFigures,
    ConfidenceMap,
    FittedMap,
    Match,
    Measure,
    ReliabilityBin,
    RiskControl,
    SelectiveAccuracy,
    Siblings,
)
from service.classification.calibration import Array
from service.classification.reliability import (
    area,
    auroc,
    expected_calibration_error,
    reliability_bins,
    risk_coverage,
)
from service.errors import ConfigurationError

FOLDS = 5
MIN_LINES = 50
MIN_OF_EACH = 5
_SEED = 7
_DECIMALS = 4
RIDGE = 1.0
"""Weight of the penalty: half the sum of the squared weights of standardised measures, in nats.

It is a normal prior of deviation 1, and keeps weights finite where a measure separates the lines.
"""
_STEPS = 50
_ALONE: tuple[Measure, ...] = ("mean_token_logprob",)
GREEDY_MEASURES: tuple[Measure, ...] = tuple(
    each for each in get_args(Measure) if each != "agreement"
)
_CANDIDATES: tuple[tuple[Measure, ...], ...] = (_ALONE, GREEDY_MEASURES)
"""Sets of measures, the simpler one first: it is taken if both have the same loss."""
_WITH_AGREEMENT: tuple[tuple[Measure, ...], ...] = tuple(
    (*names, "agreement") for names in _CANDIDATES
)


@dataclass(frozen=True, slots=True)
class Answered:
    """Measures of a line's whole answer, and whether it is right; `group` as in training lines."""

    measures: Mapping[Measure, float]
    right: bool
    group: str


def fit_map(
    answers: Sequence[Answered],
    match: Match,
    cut: int,
    alpha: float,
    siblings: Siblings | None = None,
) -> ConfidenceMap:
    """The map of all measures, or of the mean log-probability alone, whichever has less log loss.

    With `siblings` a second map also uses the agreement of each answer with them; it is left out if
    its loss is not lower. The figures and the threshold come from maps fitted on the other folds'
    lines; a group's lines are in one fold. The stored map is fitted on all lines. Raises
    ConfigurationError for fewer than MIN_LINES lines, MIN_OF_EACH right or wrong ones, or FOLDS
    groups.
    """
    right = np.array([each.right for each in answers], dtype=np.bool_)
    lines = _Lines(answers, right, folds([each.group for each in answers]), cut, alpha)
    _check(right, lines.folds)
    alone, compared = FittedMap(**lines.fitted(_CANDIDATES)), None
    if siblings is not None:
        compared = AgreementMap(siblings=siblings, **lines.fitted(_WITH_AGREEMENT))
        if compared.figures.log_loss >= alone.figures.log_loss:
            compared = None
    return ConfidenceMap(match=match, agreement=compared, **dict(alone))


@dataclass(frozen=True, slots=True)
class _Lines:
    answers: Sequence[Answered]
    right: npt.NDArray[np.bool_]
    folds: npt.NDArray[np.intp]
    cut: int
    alpha: float

    def fitted(self, candidates: Sequence[tuple[Measure, ...]]) -> dict[str, Any]:
        """Fields of the `FittedMap` with the lowest log loss."""
        right = self.right
        rows = {names: _rows(self.answers, names) for names in (_ALONE, *candidates)}
        tried = {names: _held_out(each, right, self.folds) for names, each in rows.items()}
        losses = {names: log_loss(probs, right) for names, probs in tried.items()}
        names = min(candidates, key=lambda each: losses[each])
        fitted = fit_logistic(rows[names], right)
        least = least_abstention(float((~right).mean()), self.alpha)
        return {
            "intercept": fitted.intercept,
            "weights": dict(zip(names, map(float, fitted.weights), strict=True)),
            "risk_control": RiskControl(
                alpha=self.alpha,
                threshold=risk_threshold(tried[names], right, self.alpha),
                least_abstention=_rounded(least),
            ),
            "figures": self._figures(tried[names], losses[names], losses[_ALONE]),
        }

    def _figures(self, probs: Array, loss: float, loss_alone: float) -> ConfidenceFigures:
        right, raw = self.right, _rows(self.answers, _ALONE)[:, 0]
        return ConfidenceFigures(
            lines=len(right),
            cut=self.cut,
            base_risk=_rounded((~right).mean()),
            auroc=_rounded(auroc(probs, right)),
            auroc_mean_logprob=_rounded(auroc(raw, right)),
            log_loss=_rounded(loss),
            log_loss_mean_logprob=_rounded(loss_alone),
            ece=_rounded(expected_calibration_error(probs, right)),
            ece_mean_logprob=_rounded(expected_calibration_error(_as_probs(raw), right)),
            aurc=_rounded(area(probs, right)),
            aurc_mean_logprob=_rounded(area(raw, right)),
            accuracy=_accuracy(probs, right),
            accuracy_mean_logprob=_accuracy(raw, right),
            risk=_risk(probs, right),
            reliability=_reliability(probs, right),
        )


def _as_probs(logprobs: Array) -> Array:
    """Exponentials, at most 1 whatever the rounding."""
    probs: Array = np.minimum(np.exp(logprobs), 1)
    return probs


def _accuracy(confidences: Array, right: npt.NDArray[np.bool_]) -> SelectiveAccuracy:
    risk = _risk(confidences, right)
    return SelectiveAccuracy(
        at_50=_rounded(1 - risk[4]), at_80=_rounded(1 - risk[7]), at_100=_rounded(1 - risk[9])
    )


def _rows(answers: Sequence[Answered], names: Sequence[Measure]) -> Array:
    return np.array([[each.measures[name] for name in names] for each in answers])


def folds(groups: Sequence[str]) -> npt.NDArray[np.intp]:
    """The fold of each line: groups, largest first, go to the fold with the fewest lines."""
    names, place, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(_SEED).permutation(len(names))
    order = order[np.argsort(-counts[order], kind="stable")]
    fold, sizes = np.zeros(len(names), dtype=np.intp), np.zeros(FOLDS)
    for group in order:
        fold[group] = sizes.argmin()
        sizes[fold[group]] += counts[group]
    return fold[place]


def _held_out(rows: Array, right: npt.NDArray[np.bool_], folds: npt.NDArray[np.intp]) -> Array:
    """The probability of each line, by the map of the other folds."""
    probs = np.empty(len(right))
    for fold in range(FOLDS):
        inside = folds == fold
        probs[inside] = fit_logistic(rows[~inside], right[~inside]).probs(rows[inside])
    return probs


def _risk(probs: Array, right: npt.NDArray[np.bool_]) -> tuple[float, ...]:
    """The share of errors among the surest tenths of the answers."""
    risk, lines = risk_coverage(probs, right)[1], len(right)
    return tuple(_rounded(risk[-(-lines * share // 100) - 1]) for share in range(10, 101, 10))


def _reliability(probs: Array, right: npt.NDArray[np.bool_]) -> tuple[ReliabilityBin, ...]:
    return tuple(
        ReliabilityBin(
            confidence=_rounded(each.confidence),
            accuracy=_rounded(each.accuracy),
            count=each.count,
        )
        for each in reliability_bins(probs, right)
    )


def _check(right: npt.NDArray[np.bool_], folds: npt.NDArray[np.intp]) -> None:
    if len(right) < MIN_LINES:
        raise ConfigurationError(
            f"lines: at least {MIN_LINES} whole answers are needed, got {len(right)}"
        )
    for name, count in (("right", int(right.sum())), ("wrong", int((~right).sum()))):
        if count < MIN_OF_EACH:
            raise ConfigurationError(
                f"lines: at least {MIN_OF_EACH} {name} answers are needed, got {count} of "
                f"{len(right)}"
            )
    if len(np.unique(folds)) < FOLDS:
        raise ConfigurationError(f"lines: at least {FOLDS} groups are needed")


def _rounded(value: float) -> float:
    return round(float(value), _DECIMALS)


@dataclass(frozen=True, eq=False, slots=True)
class Logistic:
    """P(1 | x) = 1 / (1 + exp(-(intercept + weights . x))), for x that is not standardised."""

    intercept: float
    weights: Array

    def probs(self, rows: Array) -> Array:
        """The probabilities of rows, (rows, measures)."""
        return _sigmoid(self.intercept + rows @ self.weights)


def fit_logistic(rows: Array, right: npt.NDArray[np.bool_]) -> Logistic:
    """The logistic map of least penalised log loss, by Newton's method.

    `rows` are (rows, measures). A measure that never changes gets no weight.
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


def risk_threshold(probs: Array, right: npt.NDArray[np.bool_], alpha: float) -> float | None:
    """The lowest probability at which to answer so that P(answered and wrong) is at most `alpha`.

    It is the smallest value among `probs` and 0 for which (wrong answers at or above it + 1) / (n +
    1) is at most alpha; None without such a value, as with fewer than 1 / alpha - 1 lines. The
    guarantee holds for lines like these, provided that the probabilities were not fitted on them.
    Source: Angelopoulos, Bates, Fisch, Lei & Schuster 2024, "Conformal Risk Control", theorem 1,
    with the loss "answered and wrong", which is at most 1 and falls as the threshold rises.
    """
    candidates = np.concatenate([[0.0], np.unique(probs)])
    wrong = np.sort(probs[~right])
    above = len(wrong) - np.searchsorted(wrong, candidates, "left")
    enough = candidates[(above + 1) / (len(probs) + 1) <= alpha]
    return float(enough[0]) if len(enough) else None


def least_abstention(base_risk: float, alpha: float) -> float:
    """The smallest share to withhold so that at most `alpha` of the remaining answers are wrong.

    The best rule withholds only wrong answers: if it withholds a share a, and mu is the error rate,
    (mu - a) / (1 - a) <= alpha, so a >= (mu - alpha) / (1 - alpha).
    """
    return max(0.0, (base_risk - alpha) / (1 - alpha))
