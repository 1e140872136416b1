"""Decisions of a suite, from a service with scripted answers."""

from typing import Any

import pytest

from evaluation.choices import Chosen, decision_figures
from evaluation.client import Client
from evaluation.decide import read_decision
from evaluation.lines import DecisionLine
from service.errors import ConfigurationError
from tests.evaluation.scripted import scripted

CHOICE: dict[str, Any] = {
    "type": "choice",
    "instructions": "Which?",
    "choices": [{"value": True}, {"value": "b"}],
}
LINES = [
    DecisionLine(
        input="sure", question={"type": "predicate", "instructions": "Late."}, answer=True
    ),
    DecisionLine(input="sure", question=CHOICE, answer="b"),
    DecisionLine(input="refuse", question=CHOICE, answer=True),
]


def answer(path: str, body: dict[str, Any]) -> tuple[int, dict[str, str], Any]:
    assert path == "/v1/decisions"
    (question,) = body["questions"]
    found: dict[str, Any] = {"type": question["type"], "name": None}
    if body["input"] == "refuse":
        found["type"] = "refusal"
    elif question["type"] == "predicate":
        found["probability"] = 0.9
    else:
        found["probabilities"] = [
            {"value": True, "probability": 0.2},
            {"value": "b", "probability": 0.8},
        ]
    return 200, {}, {"answers": [found]}


async def test_decisions_are_read_and_a_refusal_is_an_abstention() -> None:
    with scripted(answer) as url:
        async with Client(url, None, 2) as client:
            readings = [await read_decision(client, "other", line) for line in LINES]
    assert readings[0].probs == pytest.approx({"True": 0.9, "False": 0.1})
    assert readings[1].probs == {"True": 0.2, "b": 0.8}
    assert [each.abstained for each in readings] == [False, False, True]
    figures = decision_figures(Chosen(readings, [str(line.answer) for line in LINES]))
    assert figures["abstention"].value == pytest.approx(1 / 3)
    assert figures["accuracy"].value == 1


async def test_another_answer_is_an_error() -> None:
    with scripted(lambda *_: (200, {}, {"answers": [{"type": "choice"}]})) as url:
        async with Client(url, None, 1) as client:
            with pytest.raises(ConfigurationError, match="not OpenAI's answer"):
                await read_decision(client, "other", LINES[1])
