"""Decisions on the real engine, by OpenAI's client: the contract's most, exact and repeatable."""

import json
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types import Decision

from tests.served.server import Server

STATE = "The parcel came two days late, and the box was torn."
PREDICATE: Any = {"type": "predicate", "instructions": "The customer is satisfied."}
WIDE: Any = {
    "type": "choice",
    "instructions": "Which number is meant?",
    "choices": [{"value": f"no {index}"} for index in range(255)],
}
BOUND = 0.05
"""How far a probability may move with what else is in a batch, and with a cached prefix."""


@pytest.fixture
def client(smollm2: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{smollm2.url}/v1", api_key="none", max_retries=0)


def probabilities(decision: Decision) -> list[float]:
    found: list[float] = []
    for answer in decision.answers:
        if answer.type == "predicate":
            found.append(answer.probability)
        elif answer.type != "refusal":
            found += [each.probability for each in answer.probabilities]
    return found


def test_a_choice_of_255_and_200_questions_are_answered_and_repeat(
    client: openai.OpenAI, smollm2: Server
) -> None:
    asked: Any = {"model": smollm2.model, "input": STATE}
    every = client.decisions.create(questions=[WIDE, *[PREDICATE] * 199], **asked)
    assert len(every.answers) == 200
    first = every.answers[0]
    assert first.type == "choice"
    assert sum(each.probability for each in first.probabilities) == pytest.approx(1)
    alone = client.decisions.create(questions=[WIDE], **asked).answers[0]
    assert alone.type == "choice"
    for one, other in zip(alone.probabilities, first.probabilities, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=BOUND)
    same = probabilities(every)[255:]
    assert max(same) - min(same) < BOUND
    assert every.usage.input_tokens_details.cached_tokens > every.usage.input_tokens / 2


def test_an_adapter_decides_as_it_classifies(client: openai.OpenAI, smollm2: Server) -> None:
    folder = Path("deploy/local/adapters/sentiment")
    lines = (folder / "golden.jsonl").read_text().splitlines()[:4]
    for line in map(json.loads, lines):
        body = {"model": "sentiment", "input": line["input"]}
        classified = smollm2.post("/v1/classify", body).json()["data"][0]
        values = [{"value": each["label"]} for each in classified["scores"]]
        question: Any = {"type": "choice", "instructions": "Which?", "choices": values}
        decision = client.decisions.create(
            model="sentiment", input=line["input"], questions=[question]
        )
        (answer,) = decision.answers
        assert answer.type == "choice"
        assert answer.choice == classified["scores"][0]["label"]
        found = [each.probability for each in answer.probabilities]
        assert found == pytest.approx([each["score"] for each in classified["scores"]], abs=1e-3)
