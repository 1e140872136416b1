"""POST /v1/systemone over the fake engine, by vLLM's own models of its body and its answer."""

from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from vllm.entrypoints.generate.structured_decisions.protocol import (
    StructuredDecisionRequest,
    StructuredDecisionResponse,
)

from tests.answers import refusal
from tests.live_service import MODEL, LiveService

PATH = "/v1/systemone"
STATE = {"parcel": "two days late", "box": "torn"}
QUESTIONS: dict[str, Any] = {
    "subject": {
        "type": "choice",
        "instructions": "What is it about?",
        "criteria": {"delivery": "How it came.", "price": None},
    },
    "angry": {"type": "noul", "instructions": "Is the customer angry?", "criteria": None},
    "urgency": {"type": "score", "instructions": "How urgent?", "criteria": ["low", "high"]},
}


@pytest.fixture(scope="module")
def live() -> Iterator[LiveService]:
    with LiveService() as service:
        yield service


async def post(live: LiveService, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "state": STATE, "questions": QUESTIONS} | fields
    StructuredDecisionRequest.model_validate(body)
    async with live.client() as client:
        return await client.post(PATH, json=body)


async def test_each_kind_of_question_is_answered_by_its_name(live: LiveService) -> None:
    answer = await post(live, instructions="Be strict.", cache_salt="mine")
    assert answer.status_code == 200, answer.text
    decision = StructuredDecisionResponse.model_validate(answer.json())
    assert list(decision.answers) == list(decision.diagnostics) == list(QUESTIONS)
    choice, noul, score = decision.answers.values()
    assert choice["probabilities"].keys() == {"delivery", "price"}
    assert choice["confidence"] == max(choice["probabilities"].values())
    assert (
        noul["noul"]
        == noul["probabilities"]["yes"]
        == pytest.approx(1 - noul["probabilities"]["no"])
    )
    assert score["legend"] == {"0": "low", "1": "high"}
    assert score["score"] == pytest.approx(score["probabilities"]["1"])
    for each in decision.diagnostics.values():
        assert 0 < each.label_mass < 1
    assert decision.usage.input_tokens > 0


async def test_the_model_may_be_left_out(live: LiveService) -> None:
    answer = await post(live, model=None)
    assert answer.json()["model"] == MODEL
    assert answer.json()["answers"] == (await post(live)).json()["answers"]


async def test_the_likeliest_token_is_told_to_be_a_label_or_not(live: LiveService) -> None:
    questions = {"any": QUESTIONS["subject"] | {"criteria": dict.fromkeys(map(str, range(200)))}}
    found = [
        (await post(live, state=f"{number}", questions=questions)).json()["diagnostics"]["any"]
        for number in range(24)
    ]
    masses = {each["argmax_is_label"]: each["label_mass"] for each in found}
    assert len({each["label_mass"] for each in found}) > 1
    assert masses.keys() <= {True, False}


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"questions": {}}, "at least 1"),
        ({"questions": {"a": {"type": "essay", "instructions": "b"}}}, "choice"),
        (
            {"questions": {"a": {"type": "choice", "criteria": ["b"]}}},
            "questions.a.criteria: must be 2 to 255 options",
        ),
        (
            {"questions": {"a": {"type": "score", "criteria": ["b", "b"]}}},
            "questions.a.criteria: must be a list of 2 to 10 different levels",
        ),
        (
            {"questions": {"a": {"type": "noul", "criteria": {"maybe": "b"}}}},
            "questions.a.criteria: must be an object with `true` and `false`",
        ),
        ({"chat_template_kwargs": {"enable_thinking": True}}, "chat_template_kwargs"),
        ({"images": ["data:image/png;base64,AAAA"]}, "images"),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(
    live: LiveService, fields: dict[str, Any], says: str
) -> None:
    answer = await post(live, **fields)
    assert says in refusal(answer, 400)["message"]


async def test_instructions_longer_than_the_context_are_refused(live: LiveService) -> None:
    answer = await post(live, instructions="very " * 100_000)
    assert refusal(answer, 400)["code"] == "context_length_exceeded"
