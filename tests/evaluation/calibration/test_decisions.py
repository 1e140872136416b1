"""The fit of how a model is asked, from answers whose probabilities are known."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from evaluation.calibration.decisions import figures_of, fit_kind
from evaluation.lines import DecisionLine, read_lines
from service.adapters.decisions import AskingRecord
from service.classification.calibration import Array
from service.errors import ConfigurationError

LISTED = AskingRecord(answers="listed", orders=1)
UNLISTED = AskingRecord(orders=1)
RANDOM = np.random.default_rng(5)


def line(kind: str, number: int, answer: Any) -> DecisionLine:
    question: dict[str, Any] = {"type": kind, "instructions": "Which?"}
    if kind == "choice":
        question["choices"] = [{"value": "a"}, {"value": "b"}, {"value": "c"}]
    return DecisionLine(input=f"text {number}", question=question, answer=answer)


def drawn(count: int, answers: int, sharpness: float) -> tuple[Array, list[int]]:
    """Log-probabilities of a model that is right as often as it says, then made too sure of it."""
    true = RANDOM.dirichlet(np.ones(answers), size=count)
    truth = [int(RANDOM.choice(answers, p=row)) for row in true]
    rows = np.log(true) * sharpness
    return rows - np.logaddexp.reduce(rows, axis=1, keepdims=True), truth


def test_the_better_way_is_taken_and_its_temperature_found() -> None:
    rows, truth = drawn(1500, 3, sharpness=3.0)
    lines = [line("choice", number, "abc"[each]) for number, each in enumerate(truth)]
    noise = np.log(RANDOM.dirichlet(np.ones(3), size=len(lines)))
    fitted = fit_kind("choice", {UNLISTED: noise, LISTED: rows}, lines, alpha=0.2)
    assert (fitted.answers, fitted.orders) == ("listed", 1)
    assert fitted.temperature == pytest.approx(3.0, rel=0.15)
    assert fitted.figures is not None
    assert fitted.figures.ece < 0.05
    assert fitted.refuse_below is not None
    confidence = np.exp(rows / fitted.temperature)
    confidence /= confidence.sum(axis=1, keepdims=True)
    given = confidence.max(axis=1) >= fitted.refuse_below
    wrong = given & (confidence.argmax(axis=1) != np.array(truth))
    assert wrong.mean() == pytest.approx(0.2, abs=0.02)


def test_a_model_that_says_yes_too_often_gets_a_bias() -> None:
    rows, truth = drawn(1500, 2, sharpness=1.0)
    rows[:, 0] += 2.0
    lines = [line("predicate", number, each == 0) for number, each in enumerate(truth)]
    fitted = fit_kind("predicate", {UNLISTED: rows}, lines, alpha=0.05)
    assert fitted.bias == pytest.approx(-2.0, abs=0.4)
    assert fitted.temperature == pytest.approx(1.0, abs=0.2)


def test_coverage_is_the_share_of_the_surest_with_few_errors() -> None:
    sure = np.tile([0.99, 0.01], (80, 1))
    unsure = np.tile([0.6, 0.4], (20, 1))
    truth = np.array([0] * 80 + [1] * 20)
    found = figures_of(np.vstack([sure, unsure]), truth)
    assert (found.lines, found.accuracy) == (100, 0.8)
    assert 0.8 <= found.coverage < 0.9


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"answer": "d"}, "answer: must be one of the question's"),
        ({"answer": True}, "answer: must be one of the question's"),
        ({"question": {"type": "essay"}}, "question.type: must be one of"),
        ({"question": {"type": "choice"}}, "question: must be as in /v1/decisions"),
    ],
)
def test_lines_are_checked(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    good = line("choice", 1, "a").model_dump(exclude_none=True)
    file = tmp_path / "lines.jsonl"
    file.write_text(json.dumps(good) + "\n" + json.dumps(good | change) + "\n")
    with pytest.raises(ConfigurationError, match="line 2"):
        read_lines(file, DecisionLine)
    with pytest.raises(ValueError, match=says):
        DecisionLine.model_validate(good | change)
