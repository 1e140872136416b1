"""POST /v1/classify over the fake engine, on real sockets."""

import asyncio
import json
import math
from typing import Any

import httpx
import pytest

from loadtests.processes import eventually
from service.errors import EngineDead
from tests.answers import error_of, refusal
from tests.live_service import CAPACITY, LiveService

NDJSON = {"accept": "application/x-ndjson"}
LABELS = ["good", "bad", "good news"]


def body(**fields: Any) -> dict[str, Any]:
    return {"model": "fake", "input": "a text", "candidate_labels": LABELS} | fields


async def classify(client: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    response = await client.post("/v1/classify", json=body(**fields))
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def lines_of(response: httpx.Response) -> list[dict[str, Any]]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    assert response.text.endswith("\n")
    return [json.loads(line) for line in response.text.splitlines()]


async def test_answers_what_vllm_clients_read_and_more(client: httpx.AsyncClient) -> None:
    answer = await classify(client)
    (item,) = answer["data"]
    assert answer["object"] == "list"
    assert isinstance(answer["created"], int)
    assert item["num_classes"] == len(item["probs"]) == 3
    assert math.isclose(sum(item["probs"]), 1)
    assert item["label"] == LABELS[item["probs"].index(max(item["probs"]))]
    assert [s["score"] for s in item["scores"]] == sorted(item["probs"], reverse=True)
    assert item["score"] == max(item["probs"])
    assert (item["label_set"], item["abstained"]) == (None, False)
    usage = answer["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] > usage["cached_tokens"]


async def test_top_k_lists_the_best_and_keeps_all_probs(client: httpx.AsyncClient) -> None:
    (item,) = (await classify(client, top_k=1))["data"]
    assert [score["label"] for score in item["scores"]] == [item["label"]]
    assert len(item["probs"]) == 3


async def test_abstains_below_the_threshold(client: httpx.AsyncClient) -> None:
    (item,) = (await classify(client, threshold=1))["data"]
    assert item["label"] is None
    assert item["abstained"]
    assert item["score"] == max(item["probs"])


async def test_multi_label_asks_of_every_label_by_itself(client: httpx.AsyncClient) -> None:
    (item,) = (await classify(client, multi_label=True, candidate_labels=["a", "b", "c"]))["data"]
    again = (await classify(client, multi_label=True, candidate_labels=["b"]))["data"][0]
    assert item["probs"][1] == again["probs"][0]
    applies = [s["label"] for s in item["scores"] if s["score"] >= 0.5]
    assert item["label_set"] == applies
    assert item["abstained"] == (not applies)


async def test_a_template_is_the_whole_prompt(client: httpx.AsyncClient) -> None:
    template = "Review: {input}<end>\nIs:"
    answer = await classify(client, input="{input}", template=template, candidate_labels=["a", "b"])
    # Bytes for tokens: the start, the text with its special token as text, and the label's space.
    assert answer["usage"]["prompt_tokens"] == 1 + len("Review: {input}<end>\nIs:") + 1
    chat = await classify(client, input="{input}", candidate_labels=["a", "b"])
    assert chat["data"][0]["probs"] != answer["data"][0]["probs"]


async def test_the_prior_is_measured_once_and_can_be_left_out(service: LiveService) -> None:
    async with service.client() as client:
        labels = ["once", "twice"]
        before = service.engine.starts
        many = [classify(client, candidate_labels=labels) for _ in range(8)]
        calibrated = (await asyncio.gather(*many))[0]
        # Three content-free inputs and one read for each of the eight.
        assert service.engine.starts - before == 3 + 8
        raw = await classify(client, candidate_labels=labels, calibrate=False)
        assert service.engine.starts - before == 3 + 8 + 1
    assert calibrated["data"][0]["probs"] != raw["data"][0]["probs"]


async def test_inputs_fail_for_themselves_and_keep_their_order(client: httpx.AsyncClient) -> None:
    texts = ["one", " ", "two", "x" * 600, "three"]
    data = (await classify(client, input=texts))["data"]
    assert [item["index"] for item in data] == [0, 1, 2, 3, 4]
    assert [item["index"] for item in data if "error" in item] == [1, 3]
    empty, long = (error_of({"error": data[index]["error"]}) for index in (1, 3))
    assert (empty["param"], long["param"]) == ("input", "input")
    assert long["code"] == "context_length_exceeded"
    assert "context of 512" in long["message"]
    alone = (await classify(client, input="three"))["data"][0]
    assert alone["probs"] == data[4]["probs"]


async def test_streams_results_as_they_finish_and_the_totals_last(
    client: httpx.AsyncClient,
) -> None:
    texts = ["one", "", "two"]
    whole = await classify(client, input=texts)
    response = await client.post("/v1/classify", json=body(input=texts), headers=NDJSON)
    *items, summary = lines_of(response)
    for item in (*items, *whole["data"]):
        if "error" in item:
            item["error"]["request_id"] = "any"
    assert sorted(items, key=lambda item: item["index"]) == whole["data"]
    assert summary["usage"] == whole["usage"]
    assert summary["object"] == "summary"


async def test_a_batch_of_256_never_fills_the_queue_by_itself() -> None:
    with LiveService(admission={"max_queued": CAPACITY}) as service:
        async with service.client() as client:
            answer = await classify(client, input=[f"text {n}" for n in range(256)])
        assert all("error" not in item for item in answer["data"])
        assert [item["index"] for item in answer["data"]] == list(range(256))
        await eventually(service.idle)


@pytest.mark.parametrize("headers", [{}, NDJSON], ids=["whole", "ndjson"])
async def test_a_full_server_refuses_the_whole_with_its_status(headers: dict[str, str]) -> None:
    with LiveService(admission={"max_queued": 0}) as service:
        async with service.client() as client:
            service.engine.frozen, started = True, service.engine.starts + CAPACITY
            busy = [
                asyncio.create_task(client.post("/v1/generate", json=generate()))
                for _ in range(CAPACITY)
            ]
            await eventually(lambda: service.engine.starts == started)
            response = await client.post(
                "/v1/classify", json=body(input=["a", "b"]), headers=headers
            )
            assert service.engine.starts == started  # no prompt was read
            error = refusal(response, 503)
            assert error["code"] == "queue_full"
            assert response.headers["retry-after"]
            service.engine.frozen = False
            await asyncio.gather(*busy)


def generate() -> dict[str, Any]:
    return {"model": "fake", "prompt": "a", "max_tokens": 1}


@pytest.mark.parametrize("headers", [{}, NDJSON], ids=["whole", "ndjson"])
async def test_an_engine_that_dies_in_a_batch_keeps_what_was_answered(
    headers: dict[str, str],
) -> None:
    with LiveService() as service:
        async with service.client() as client:
            await classify(client)
            service.engine.spared = 5
            service.engine.failure = EngineDead("The engine has ended.")
            request = body(input=[f"text {n}" for n in range(20)], candidate_labels=["a", "b"])
            request["calibrate"] = False
            response = await client.post("/v1/classify", json=request, headers=headers)
            service.engine.failure = None
        items = lines_of(response)[:-1] if headers else response.json()["data"]
        assert sorted(item["index"] for item in items) == list(range(20))
        failed = [item for item in items if "error" in item]
        assert {item["error"]["code"] for item in failed} == {"engine_dead"}
        assert len(items) - len(failed) == 5
        await eventually(lambda: service.outcomes() == {"ok": 2})


@pytest.mark.parametrize("headers", [{}, NDJSON], ids=["whole", "ndjson"])
async def test_a_client_that_leaves_cancels_every_read(headers: dict[str, str]) -> None:
    with LiveService() as service:
        async with service.client() as client:
            await classify(client)
            service.engine.frozen = True
            asked = client.post("/v1/classify", json=body(input=["a"] * 50), headers=headers)
            asking = asyncio.create_task(asked)
            await eventually(lambda: service.engine.running > 0)
            asking.cancel()
            await asyncio.wait([asking])
            service.engine.frozen = False
            await eventually(service.idle)
        assert service.value("inference_classification_reads_count", model="fake") == 1


async def test_counts_labels_that_a_request_brought_as_other() -> None:
    with LiveService() as service:
        async with service.client() as client:
            await classify(client, input=["a", "b"])
            await classify(client, threshold=1)

        def value(series: str, **labels: str) -> float:
            return service.value(f"inference_classification{series}", model="fake", **labels)

        assert value("s_total", label="other") == 2
        assert value("_abstentions_total") == 1
        assert value("_score_count") == 3
        # Byte tokens: " good" and " bad" part after the space, "good" and "good news" at its end.
        assert value("_reads_sum") == 3 * 2


@pytest.mark.parametrize(
    ("fields", "param", "parts"),
    [
        ({"input": ""}, "input", ["white space"]),
        ({"input": []}, "input", ["1..256", "got 0"]),
        ({"input": ["a"] * 257}, "input", ["1..256", "got 257"]),
        ({"input": ["", " \n"]}, "input", ["white space"]),
        ({"input": "x" * 600}, "input", ["context of 512"]),
        ({"candidate_labels": None}, "candidate_labels", ["required"]),
        ({"candidate_labels": []}, "candidate_labels", ["2..256", "got 0"]),
        ({"candidate_labels": ["a"]}, "candidate_labels", ["2..256", "got 1"]),
        ({"candidate_labels": ["a", ""]}, "candidate_labels", ["[1]", "blank"]),
        ({"candidate_labels": ["a", "b", "a"]}, "candidate_labels", ["[2]", "given twice"]),
        (
            {"candidate_labels": [f"{n}" for n in range(10_000)]},
            "candidate_labels",
            ["2..256", "got 10000"],
        ),
        ({"candidate_labels": ["a", "x" * 257]}, "candidate_labels", ["1..256 bytes", "257"]),
        ({"candidate_labels": ["a", "x" * 200]}, "candidate_labels", ["tokens", "limit is 64"]),
        ({"candidate_labels": ["a", "<end>"]}, "candidate_labels", ["special token"]),
        ({"candidate_labels": ["a", "\ud800"]}, None, ["not valid JSON"]),
        ({"instruction": " "}, "instruction", ["blank"]),
        ({"instruction": "x" * 4097}, "instruction", ["4096"]),
        ({"instruction": "x" * 600}, "input", ["context of 512"]),
        ({"template": "no place"}, "template", ["{input} exactly once", "got it 0 times"]),
        ({"template": "{input}{input}:"}, "template", ["exactly once", "got it 2 times"]),
        ({"template": "Review: {input}"}, "template", ["needs a word after the input"]),
        ({"template": "x" * 4097}, "template", ["4096"]),
        ({"template": "{input}\nIs:", "instruction": "?"}, "instruction", ["beside a template"]),
        ({"template": "{input}\nIs:", "multi_label": True}, "multi_label", ["beside a template"]),
        ({"threshold": 1.01}, "threshold", ["less than or equal to 1", "got 1.01"]),
        ({"threshold": -0.1}, "threshold", ["greater than or equal to 0", "got -0.1"]),
        ({"top_k": 0}, "top_k", ["greater than or equal to 1", "got 0"]),
        ({"multi_label": True, "candidate_labels": []}, "candidate_labels", ["1..256", "got 0"]),
        ({"hypothesis": "x"}, "hypothesis", ["unknown field"]),
    ],
)
async def test_refuses_by_field_limit_and_value(
    client: httpx.AsyncClient,
    service: LiveService,
    fields: dict[str, Any],
    param: str | None,
    parts: list[str],
) -> None:
    before = service.engine.starts
    request = json.dumps(body(calibrate=False, **fields))
    response = await client.post(
        "/v1/classify", content=request, headers={"content-type": "application/json"}
    )
    error = refusal(response, 400)
    assert error["param"] == param
    for part in parts:
        assert part in error["message"]
    assert service.engine.starts == before
