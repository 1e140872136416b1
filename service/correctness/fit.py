"""The map that held-out answers give, with its figures."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from service.adapters.confidence import (
    ConfidenceFigures,
    ConfidenceMap,
    Match,
    Measure,
    ReliabilityBin,
    RiskControl,
    SelectiveAccuracy,
)
from service.classification.distribution import Array
from service.classification.reliability import expected_calibration_error, reliability_bins
from service.classification.selective import area, auroc, risk_coverage
from service.correctness.logistic import fit_logistic, log_loss
from service.correctness.risk import least_abstention, risk_threshold
from service.errors import ConfigurationError
from service.generation.confidence import Confidence

FOLDS = 5
MIN_LINES = 50
MIN_OF_EACH = 5
_SEED = 7
_DECIMALS = 4
_ALONE: tuple[Measure, ...] = ("mean_token_logprob",)


@dataclass(frozen=True, slots=True)
class Answered:
    """A held-out line's whole answer: its measures, and if it is right; `group` as in training."""

    confidence: Confidence
    right: bool
    group: str


def fit_map(answers: Sequence[Answered], match: Match, cut: int, alpha: float) -> ConfidenceMap:
    """The map of all measures, or of the mean log-probability alone, by log loss.

    The figures and the threshold come from maps fitted on the other folds' lines; a group's lines
    are in one fold. The stored map is fitted on all lines. Raises ConfigurationError for fewer than
    MIN_LINES lines, MIN_OF_EACH right or wrong ones, or FOLDS groups.
    """
    right = np.array([each.right for each in answers], dtype=np.bool_)
    folds = _folds([each.group for each in answers])
    _check(right, folds)
    tried = {names: _held_out(_rows(answers, names), right, folds) for names in _CANDIDATES}
    losses = {names: log_loss(probs, right) for names, probs in tried.items()}
    names = min(losses, key=lambda each: losses[each])
    fitted, probs = fit_logistic(_rows(answers, names), right), tried[names]
    base_risk = float((~right).mean())
    threshold, risk = risk_threshold(probs, right, alpha), _risk(probs, right)
    return ConfidenceMap(
        match=match,
        intercept=fitted.intercept,
        weights=dict(zip(names, map(float, fitted.weights), strict=True)),
        risk_control=RiskControl(
            alpha=alpha,
            threshold=threshold,
            least_abstention=_rounded(least_abstention(base_risk, alpha)),
        ),
        figures=ConfidenceFigures(
            lines=len(right),
            cut=cut,
            base_risk=_rounded(base_risk),
            auroc=_rounded(auroc(probs, right)),
            auroc_mean_logprob=_rounded(auroc(_rows(answers, _ALONE)[:, 0], right)),
            log_loss=_rounded(losses[names]),
            log_loss_mean_logprob=_rounded(losses[_ALONE]),
            ece=_rounded(expected_calibration_error(probs, right)),
            aurc=_rounded(area(probs, right)),
            accuracy=SelectiveAccuracy(
                at_50=_rounded(1 - risk[4]),
                at_80=_rounded(1 - risk[7]),
                at_100=_rounded(1 - risk[9]),
            ),
            risk=risk,
            reliability=_reliability(probs, right),
        ),
    )


_CANDIDATES: tuple[tuple[Measure, ...], ...] = (_ALONE, get_args(Measure))
"""The simpler first: it stays where both have the same loss."""


def _rows(answers: Sequence[Answered], names: Sequence[Measure]) -> Array:
    measured = [asdict(each.confidence) for each in answers]
    return np.array([[each[name] for name in names] for each in measured])


def _folds(groups: Sequence[str]) -> npt.NDArray[np.intp]:
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
