"""Fits how a model is asked closed questions, and its calibration, from held-out questions."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import numpy.typing as npt

from evaluation.calibration.fit import FOLDS, MIN_LINES, fit_logistic, folds, risk_threshold
from evaluation.client import Client
from evaluation.decide import decide
from evaluation.lines import DecisionLine
from service.adapters.decisions import (
    AskingRecord,
    DecisionFigures,
    DecisionsRecord,
    QuestionType,
)
from service.classification.calibration import MAX_TEMPERATURE, Array, fit_temperature, normalise
from service.classification.reliability import expected_calibration_error, risk_coverage
from service.common.aio import gather

CANDIDATES = (
    AskingRecord(orders=1),
    AskingRecord(orders=1, prior=True),
    AskingRecord(answers="listed", orders=1),
    AskingRecord(answers="listed", orders=2),
    AskingRecord(answers="letters", orders=2),
)
"""Ways of asking that are tried, cheap ones first: the first of equal ones is taken."""
LARGEST_ERROR = 0.05
"""The share of wrong answers at which coverage is measured."""
_DECIMALS = 4
_NEVER = -1000.0
"""Log-probability of an answer that a question does not have."""


async def ask_decisions(
    client: Client, model: str, lines: Sequence[DecisionLine], how: AskingRecord | None
) -> Array:
    """The log-probabilities of each line's answers, padded on the right.

    They are not calibrated if `how` is given; else they are as the service is configured.
    """

    async def one(line: DecisionLine) -> list[float]:
        asking = None if how is None else {str(line.kind): how.model_dump()}
        return (await decide(client, model, line, asking)).probabilities

    found = await gather(one(line) for line in lines)
    rows = np.full((len(lines), max(map(len, found))), _NEVER)
    for row, probabilities in zip(rows, found, strict=True):
        row[: len(probabilities)] = np.log(np.maximum(probabilities, 1e-300))
    bounded: Array = np.maximum(rows, _NEVER)
    return bounded


def fit_kind(
    kind: QuestionType,
    asked: Mapping[AskingRecord, Array],
    lines: Sequence[DecisionLine],
    alpha: float,
) -> AskingRecord:
    """The way of asking with the least held-out log loss, calibrated on all lines of this type.

    `asked` holds the log-probabilities by each way of asking. The figures and the threshold come
    from fits on the other folds' lines; a group's lines are in one fold.
    """
    truth = np.array([line.answers.index(line.answer) for line in lines])
    parts = folds([line.group or line.input for line in lines])
    held = {how: _held_out(kind, rows, truth, parts) for how, rows in asked.items()}
    best = min(held, key=lambda how: _log_loss(held[how], truth))
    probabilities = held[best]
    confidence, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == truth
    return best.model_copy(
        update={
            **_fit(kind, asked[best], truth).fields,
            "alpha": alpha,
            "refuse_below": risk_threshold(confidence, right, alpha),
            "figures": figures_of(probabilities, truth),
        }
    )


def figures_of(probabilities: Array, truth: npt.NDArray[np.intp]) -> DecisionFigures:
    """Accuracy, calibration and coverage of answers whose probabilities did not see the truth."""
    confidence = np.clip(probabilities.max(axis=1), 0, 1)
    right = probabilities.argmax(axis=1) == truth
    wanted = np.eye(probabilities.shape[1])[truth]
    coverage, risk = risk_coverage(confidence, right)
    enough = coverage[risk <= LARGEST_ERROR]
    return DecisionFigures(
        lines=len(truth),
        accuracy=_rounded(right.mean()),
        ece=_rounded(expected_calibration_error(confidence, right)),
        brier=_rounded(((probabilities - wanted) ** 2).sum(axis=1).mean()),
        coverage=_rounded(enough.max() if len(enough) else 0.0),
    )


@dataclass(frozen=True, slots=True)
class _Fit:
    temperature: float
    bias: float = 0.0

    @property
    def fields(self) -> dict[str, float]:
        return {"temperature": self.temperature, "bias": self.bias}

    def apply(self, rows: Array) -> Array:
        """The probabilities, as the service computes them."""
        shifted = rows.copy()
        shifted[:, 0] += self.bias
        found: Array = np.exp(normalise(shifted / self.temperature))
        return found


def _fit(kind: QuestionType, rows: Array, truth: npt.NDArray[np.intp]) -> _Fit:
    if kind != "predicate":
        return _Fit(fit_temperature(rows, truth))
    # Platt's map of the log-odds; a slope that is not positive means that they tell nothing.
    fitted = fit_logistic((rows[:, 0] - rows[:, 1])[:, None], truth == 0)
    temperature = 1 / max(float(fitted.weights[0]), 1 / MAX_TEMPERATURE)
    return _Fit(temperature, fitted.intercept * temperature)


def _held_out(
    kind: QuestionType, rows: Array, truth: npt.NDArray[np.intp], parts: npt.NDArray[np.intp]
) -> Array:
    probabilities = np.empty_like(rows)
    for part in range(FOLDS):
        inside = parts == part
        if inside.any():
            fitted = _fit(kind, rows[~inside], truth[~inside])
            probabilities[inside] = fitted.apply(rows[inside])
    return probabilities


def _log_loss(probabilities: Array, truth: npt.NDArray[np.intp]) -> float:
    of_truth = np.take_along_axis(probabilities, truth[:, None], axis=-1)
    return float(-np.log(np.clip(of_truth, 1e-12, 1)).mean())


def _rounded(value: float) -> float:
    return round(float(value), _DECIMALS)


async def fit_decisions(
    client: Client,
    model: str,
    lines: Sequence[DecisionLine],
    candidates: Sequence[AskingRecord],
    alpha: float,
) -> DecisionsRecord:
    """The record of a served model; types of fewer than MIN_LINES lines keep their defaults."""
    found: dict[str, AskingRecord] = {}
    for kind in get_args(QuestionType):
        own = [line for line in lines if line.kind == kind]
        if len(own) < MIN_LINES:
            continue
        asked = {}
        for how in candidates:
            asked[how] = await ask_decisions(client, model, own, how)
        found[kind] = await asyncio.to_thread(fit_kind, kind, asked, own, alpha)
    return DecisionsRecord(**found)
