"""Decisions on the real engine, by OpenAI's client: the contract's most, exact and repeatable."""

import json
from concurrent.futures import ThreadPoolExecutor
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
FEELING: Any = {
    "type": "choice",
    "instructions": "How does the author feel?",
    "choices": [{"value": each} for each in ("glad", "angry", "bored", "afraid")],
}
TEXTS = [
    "A warm, funny film that I would gladly watch again.",
    "The battery died after two days and nobody answers.",
    "The lecture went on and on, and half of us slept.",
    "I heard steps behind me, and the street was dark.",
]
BOUND = 0.02
"""How far a probability may move with what else is in a batch, and with a cached prefix."""


def client_of(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def probabilities(decision: Decision) -> list[float]:
    found: list[float] = []
    for answer in decision.answers:
        if answer.type == "predicate":
            found.append(answer.probability)
        elif answer.type != "refusal":
            found += [each.probability for each in answer.probabilities]
    return found


def test_a_choice_of_255_and_200_questions_are_answered(tiny: Server) -> None:
    predicates = [PREDICATE | {"instructions": f"It is day {day}."} for day in range(199)]
    decision = client_of(tiny).decisions.create(
        model=tiny.model, input=STATE * 20, questions=[WIDE, *predicates]
    )
    assert len(decision.answers) == 200
    first = decision.answers[0]
    assert first.type == "choice"
    assert len({each.value for each in first.probabilities}) == 255
    assert sum(each.probability for each in first.probabilities) == pytest.approx(1)
    usage = decision.usage
    assert usage.input_tokens_details.cached_tokens > usage.input_tokens / 2


def test_answers_are_the_same_alone_beside_load_and_from_the_cache(smollm2: Server) -> None:
    client = client_of(smollm2)

    def ask(text: str) -> Decision:
        return client.decisions.create(
            model=smollm2.model, input=text, questions=[FEELING, PREDICATE]
        )

    cold = [ask(text) for text in TEXTS]
    warm = [ask(text) for text in TEXTS]
    with ThreadPoolExecutor(24) as pool:
        others = pool.map(ask, [f"{number} {text}" for number in range(5) for text in TEXTS])
        loaded = list(pool.map(ask, TEXTS))
        assert len(list(others)) == 20
    for again in (warm, loaded):
        for one, other in zip(cold, again, strict=True):
            first, second = one.answers[0], other.answers[0]
            assert first.type == second.type == "choice"
            best, next_best, *_ = sorted((p.probability for p in first.probabilities), reverse=True)
            if best - next_best > 2 * BOUND:
                assert first.choice == second.choice
            assert probabilities(one) == pytest.approx(probabilities(other), abs=BOUND)


def test_an_adapter_decides_as_it_classifies(smollm2: Server) -> None:
    folder = Path("deploy/local/adapters/sentiment")
    lines = (folder / "golden.jsonl").read_text().splitlines()[:4]
    for line in map(json.loads, lines):
        body = {"model": "sentiment", "input": line["input"]}
        classified = smollm2.post("/v1/classify", body).json()["data"][0]
        values = [{"value": each["label"]} for each in classified["scores"]]
        question: Any = {"type": "choice", "instructions": "Which?", "choices": values}
        decision = client_of(smollm2).decisions.create(
            model="sentiment", input=line["input"], questions=[question]
        )
        (answer,) = decision.answers
        assert answer.type == "choice"
        assert answer.choice == classified["scores"][0]["label"]
        found = [each.probability for each in answer.probabilities]
        assert found == pytest.approx([each["score"] for each in classified["scores"]], abs=1e-3)
