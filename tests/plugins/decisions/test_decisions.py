"""POST /v1/decisions over the fake engine and fake encoders, by OpenAI's own types."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from openai.types import Decision

from tests.adapters.proven import served_base, sources
from tests.adapters.samples import AdapterFolder, write_base
from tests.answers import refusal
from tests.fake_encoder import LABELS
from tests.live_service import MODEL, LiveService

PATH = "/v1/decisions"
STATE = "The parcel came late."
PREDICATE = {"type": "predicate", "instructions": "The customer is satisfied."}
CHOICE = {
    "type": "choice",
    "name": "subject",
    "instructions": "What is it about?",
    "choices": [{"value": "delivery", "description": "How it came."}, {"value": "price"}],
}
FLAG = {
    "type": "choice",
    "instructions": "Was it late?",
    "choices": [{"value": True}, {"value": False}],
}
SCORE = {
    "type": "score",
    "instructions": "How urgent is it?",
    "levels": [
        {"label": "low"},
        {"label": "medium", "description": "This week."},
        {"label": "high"},
    ],
}
ENCODERS = [{"name": name, "path": "unused"} for name in ("classify", "classify-nli", "embed")]


@pytest.fixture(scope="module")
def live() -> Iterator[LiveService]:
    with LiveService(encoders=ENCODERS) as service:
        yield service


async def post(live: LiveService, **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "input": STATE, "questions": [PREDICATE]} | fields
    async with live.client() as client:
        return await client.post(PATH, json=body)


async def decided(live: LiveService, **fields: Any) -> Decision:
    answer = await post(live, **fields)
    assert answer.status_code == 200, answer.text
    return Decision.model_validate(answer.json(), strict=True)


async def test_each_kind_of_question_is_answered_in_order(live: LiveService) -> None:
    decision = await decided(live, questions=[PREDICATE, CHOICE, FLAG, SCORE])
    predicate, choice, flag, score = decision.answers
    assert predicate.type == "predicate"
    assert 0 <= predicate.probability <= 1
    assert choice.type == flag.type == "choice"
    assert (choice.name, flag.name) == ("subject", None)
    assert [each.value for each in choice.probabilities] == ["delivery", "price"]
    assert [each.value for each in flag.probabilities] == [True, False]
    assert type(flag.choice) is bool
    for chosen in (choice, flag):
        best = max(chosen.probabilities, key=lambda found: found.probability)
        assert (chosen.choice, chosen.confidence) == (best.value, best.probability)
    assert score.type == "score"
    assert [each.label for each in score.probabilities] == ["low", "medium", "high"]
    assert [each.value for each in score.probabilities] == [0, 1, 2]
    mean = sum(each.value * each.probability for each in score.probabilities)
    assert score.score == pytest.approx(mean)
    for each in (choice, flag, score):
        assert sum(found.probability for found in each.probabilities) == pytest.approx(1)


async def test_openais_own_client_asks(live: LiveService) -> None:
    async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
        decision = await client.decisions.create(
            model=MODEL,
            input=[{"role": "user", "content": [{"type": "input_text", "text": STATE}]}],
            questions=[PREDICATE, CHOICE],  # type: ignore[list-item]
            safety_identifier="someone",
        )
    assert [each.type for each in decision.answers] == ["predicate", "choice"]
    assert decision.usage.input_tokens > 0


async def test_as_many_questions_as_the_contract_allows_are_answered(live: LiveService) -> None:
    decision = await decided(live, questions=[PREDICATE] * 400)
    assert len(decision.answers) == 400
    assert len({str(each) for each in decision.answers}) == 1


async def test_an_input_of_messages_is_read_whole(live: LiveService) -> None:
    text = {"type": "input_text", "text": STATE}
    as_text = await decided(live)
    one = await decided(live, input=[{"role": "user", "content": [text]}])
    assert one.answers == as_text.answers
    data = {"type": "input_json", "data": {"late": True}}
    messages = [
        {"role": "user", "content": [text, data]},
        {"role": "assistant", "content": "I am sorry."},
    ]
    several = await decided(live, input=messages)
    written = f'user: {STATE}\n{{"late": true}}\n\nassistant: I am sorry.'
    assert several.answers == (await decided(live, input=written)).answers


@pytest.mark.parametrize(
    ("fields", "param", "says"),
    [
        ({"questions": []}, "questions", "at least 1"),
        ({"questions": [PREDICATE] * 401}, "questions", "at most 400"),
        ({"questions": [{"type": "essay", "instructions": "a"}]}, "questions[0].type", "one of"),
        (
            {"questions": [CHOICE | {"choices": [{"value": "a"}]}]},
            "questions[0].choices",
            "at least 2",
        ),
        (
            {"questions": [CHOICE | {"choices": [{"value": "a"}, {"value": "a"}]}]},
            "questions[0]",
            "the values must differ",
        ),
        (
            {"questions": [CHOICE | {"choices": [{"value": "a"}, {"value": " "}]}]},
            "questions",
            "questions[0].choices[1].value: must not be blank",
        ),
        (
            {"questions": [CHOICE | {"choices": [{"value": "a"}, {"value": 5}]}]},
            "questions[0].choices[1].value",
            "must be a valid string",
        ),
        ({"questions": [SCORE | {"levels": [{"label": "a"}] * 2}]}, "questions[0]", "must differ"),
        ({"questions": [PREDICATE | {"instructions": ""}]}, "questions[0].instructions", "1"),
        ({"input": "x " * 3000}, "input", "more than the model's context"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image"}]}]},
            "input[0].content[0].type",
            "input_text",
        ),
        ({"safety_identifier": "x" * 129}, "safety_identifier", "at most 128"),
        (
            {"questions": [CHOICE | {"choices": [{"value": str(n)} for n in range(255)]}] * 17},
            "questions",
            "at most 4096 possible answers together, got 4335",
        ),
        ({"temperature": 0.5}, "temperature", "unknown field"),
        ({"model": "embed"}, "model", ""),
    ],
)
async def test_what_cannot_be_asked_is_refused_by_name(
    live: LiveService, fields: dict[str, Any], param: str, says: str
) -> None:
    error = refusal(await post(live, **fields), 400)
    assert error["param"] == param
    assert says in error["message"]


async def test_a_trained_head_answers_choices_among_its_labels(live: LiveService) -> None:
    choices = [{"value": label} for label in LABELS]
    question = CHOICE | {"choices": choices}
    decision = await decided(live, model="classify", questions=[question, question])
    async with live.client() as client:
        body = {"model": "classify", "input": STATE}
        classified = (await client.post("/v1/classify", json=body)).json()["data"][0]
    for answer in decision.answers:
        assert answer.type == "choice"
        assert answer.choice == classified["label"]
        found = [each.probability for each in answer.probabilities]
        assert found == pytest.approx(classified["probs"])
    assert decision.usage.input_tokens == len(STATE) + 2  # read once for both
    other = {"type": "choice", "instructions": "a", "choices": [{"value": "x"}, {"value": "y"}]}
    error = refusal(await post(live, model="classify", questions=[other]), 400)
    assert (
        "questions[0].choices[0].value: must be a label of this model, got 'x'" in error["message"]
    )
    error = refusal(await post(live, model="classify", questions=[SCORE]), 400)
    assert "answers choices among them" in error["message"]


async def test_an_encoder_for_inference_answers_everything(live: LiveService) -> None:
    decision = await decided(live, model="classify-nli", questions=[PREDICATE, CHOICE, SCORE])
    assert [each.type for each in decision.answers] == ["predicate", "choice", "score"]


async def test_an_adapter_that_classifies_answers_by_its_own_calibration(tmp_path: Path) -> None:
    folder = write_base(tmp_path / "base")
    adapter = AdapterFolder(tmp_path / "sentiment", served_base(folder))
    del adapter.manifest["golden"]
    adapter.write_plain()
    adapter.seal()
    labels = list(adapter.manifest["classification"]["labels"])
    with LiveService(
        model_path=folder,
        adapters=sources(tmp_path / "sentiment"),
        adapter_cache={"path": tmp_path / "cache"},
    ) as live:
        name = adapter.manifest["name"]
        question = CHOICE | {"choices": [{"value": label} for label in reversed(labels)]}
        decision = await decided(live, model=name, questions=[question])
        async with live.client() as client:
            body = {"model": name, "input": STATE}
            classified = (await client.post("/v1/classify", json=body)).json()["data"][0]
    (answer,) = decision.answers
    assert answer.type == "choice"
    found = {each.value: each.probability for each in answer.probabilities}
    scores = {each["label"]: each["score"] for each in classified["scores"]}
    assert found == pytest.approx(scores)


@pytest.mark.parametrize("answers", ["unlisted", "listed", "letters"])
async def test_a_request_may_say_how_it_is_asked(live: LiveService, answers: str) -> None:
    how = {"answers": answers, "orders": 2}
    asking = {"predicate": how, "choice": how, "score": how}
    questions = [PREDICATE, CHOICE, FLAG, SCORE]
    decision = await decided(live, questions=questions, asking=asking)
    assert [each.type for each in decision.answers] == ["predicate", "choice", "choice", "score"]
    soft = {kind: {**how, "temperature": 100.0} for kind in asking}
    softer = await decided(live, questions=questions, asking=soft)
    one, other = decision.answers[3], softer.answers[3]
    assert one.type == other.type == "score"
    assert other.confidence < one.confidence
    error = refusal(await post(live, asking={"predicate": {"orders": 9}}), 400)
    assert error["param"] == "asking.predicate.orders"


async def test_two_orders_even_out_where_an_answer_stands(live: LiveService) -> None:
    asking = {"choice": {"answers": "listed", "orders": 2}}
    turned = CHOICE | {"choices": CHOICE["choices"][::-1]}
    both = await decided(live, questions=[CHOICE, turned], asking=asking)
    first, second = both.answers
    assert first.type == second.type == "choice"
    one, other = ({p.value: p.probability for p in each.probabilities} for each in (first, second))
    assert one == pytest.approx(other)


async def test_what_the_calibration_does_not_single_out_is_refused() -> None:
    base = {"predicate": {"refuse_below": 1.0}, "choice": {"refuse_below": 0.0}}
    with LiveService(decisions={"base": base, "refuse": True}) as live:
        decision = await decided(live, questions=[PREDICATE | {"name": "sure"}, CHOICE])
        assert [each.type for each in decision.answers] == ["refusal", "choice"]
        assert decision.answers[0].name == "sure"
        async with live.client() as client:
            asked = {"state": STATE, "questions": {"q": {"type": "noul", "instructions": "Late?"}}}
            answer = (await client.post("/v1/systemone", json=asked)).json()
        assert answer["answers"] == {"q": {"type": "refusal"}}
    with LiveService(decisions={"base": base}) as live:
        decision = await decided(live, questions=[PREDICATE])
        assert decision.answers[0].type == "predicate"


async def test_a_prior_is_measured_once_for_each_question(live: LiveService) -> None:
    fresh = CHOICE | {"instructions": "What was never asked before?"}
    plain = await decided(live, questions=[fresh], asking={"choice": {"prior": False}})
    first = await decided(live, questions=[fresh], asking={"choice": {"prior": True}})
    again = await decided(live, questions=[fresh], asking={"choice": {"prior": True}})
    assert first.answers == again.answers != plain.answers


async def test_a_batch_decides(tmp_path: Path) -> None:
    body = {"model": MODEL, "input": STATE, "questions": [PREDICATE, CHOICE]}
    line = json.dumps({"custom_id": "a", "method": "POST", "url": PATH, "body": body})
    with LiveService(batches={"path": tmp_path}) as live:
        async with openai.AsyncOpenAI(base_url=f"{live.url}/v1", api_key="none") as client:
            file = await client.files.create(file=("a.jsonl", line.encode()), purpose="batch")
            batch = await client.batches.create(
                input_file_id=file.id,
                endpoint=PATH,  # type: ignore[arg-type]
                completion_window="24h",
            )
            while batch.status not in ("completed", "failed"):
                await asyncio.sleep(0.05)
                batch = await client.batches.retrieve(batch.id)
            assert batch.output_file_id is not None, batch
            output = json.loads((await client.files.content(batch.output_file_id)).text)
        alone = await decided(live, questions=[PREDICATE, CHOICE])
    found = Decision.model_validate(output["response"]["body"], strict=True)
    assert found.answers == alone.answers
