"""POST /v1/classify for the base model."""

from typing import Any

import httpx
import pytest

from service.settings import GateSettings
from tests.answers import refusal
from tests.live_service import LiveService

PATH = "/v1/classify"
LABELS = ["positive", "negative", "mixed"]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "fake", "input": "I loved it", "candidate_labels": LABELS, **fields}


async def test_an_answer_ranks_the_labels_by_probability(client: httpx.AsyncClient) -> None:
    response = await client.post(PATH, json=body())
    result = response.json()
    assert result.keys() == {"id", "object", "model", "data", "usage", "timing"}
    assert result["id"] == response.headers["x-request-id"]
    (data,) = result["data"]
    scores = [score["score"] for score in data["scores"]]
    assert sorted(score["label"] for score in data["scores"]) == sorted(LABELS)
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)
    assert (data["label"], data["score"]) == (data["scores"][0]["label"], scores[0])


async def test_results_come_in_the_order_of_the_inputs(client: httpx.AsyncClient) -> None:
    texts = [f"text {number}" for number in range(40)]  # ten times what runs at once
    together = (await client.post(PATH, json=body(input=texts))).json()
    assert [data["index"] for data in together["data"]] == list(range(40))
    last = (await client.post(PATH, json=body(input=texts[-1]))).json()
    assert together["data"][-1]["scores"] == last["data"][0]["scores"]
    assert together["usage"]["prompt_tokens"] > 39 * last["usage"]["prompt_tokens"] * 0.9


async def test_top_k_keeps_the_likeliest(client: httpx.AsyncClient) -> None:
    whole = (await client.post(PATH, json=body())).json()["data"][0]
    best = (await client.post(PATH, json=body(top_k=1))).json()["data"][0]
    assert best["scores"] == whole["scores"][:1]


async def test_the_instruction_is_part_of_the_question(client: httpx.AsyncClient) -> None:
    plain = (await client.post(PATH, json=body())).json()
    asked = (await client.post(PATH, json=body(instruction="Is it praise?"))).json()
    assert asked["data"][0]["scores"] != plain["data"][0]["scores"]


async def test_an_input_that_does_not_fit_is_refused_with_its_length(
    client: httpx.AsyncClient,
) -> None:
    response = await client.post(PATH, json=body(input=["short", "x" * 600]))
    error = refusal(response, 400)
    assert "512" in error["message"]


async def test_a_batch_that_the_queue_cannot_hold_is_refused_whole() -> None:
    with LiveService(gate=GateSettings(max_in_flight=1, max_queued=2)) as live:
        async with live.client() as client:
            response = await client.post(PATH, json=body(input=["a", "b", "c", "d"]))
        assert refusal(response, 503)["code"] == "queue_full"
        assert response.headers["retry-after"] == "1"
        assert live.idle()
