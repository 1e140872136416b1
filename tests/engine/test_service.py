"""Promises of the README, checked on the real model."""

import json
from pathlib import Path

import httpx
import pytest

from service.settings.load import load_settings
from tests.engine.asked import CAPITAL, CLEAR, NEGATIVE, SENTIMENT, TOKYO
from tests.served.server import Server

JAPAN = {
    "messages": CAPITAL,
    "temperature": 0,
    "max_tokens": 32,
}


def test_generate_answers_a_question(smollm2: Server) -> None:
    answer = smollm2.post("/v1/generate", {"model": smollm2.model, "confidence": True} | JAPAN)
    assert answer.status_code == 200, answer.text
    (output,) = answer.json()["outputs"]
    assert output["text"] == TOKYO
    assert output["finish_reason"] == "stop"
    assert 0 < output["confidence"]["min_token_probability"] <= 1
    assert output["confidence"]["sequence_logprob"] < 0
    assert answer.json()["usage"]["prompt_tokens"] == 41


def test_generate_streams_what_it_answers(smollm2: Server) -> None:
    whole = smollm2.post("/v1/generate", {"model": smollm2.model} | JAPAN).json()
    text = smollm2.post("/v1/generate", {"model": smollm2.model, "stream": True} | JAPAN).text
    events = [line.removeprefix("data: ") for line in text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    assert json.loads(events[-2])["usage"] == whole["usage"]
    streamed = "".join(json.loads(event)["text"] for event in events[:-2])
    assert streamed == whole["outputs"][0]["text"]


@pytest.mark.parametrize(
    ("response_format", "holds"),
    [
        ({"type": "choice", "choice": ["Kyoto", "Tokyo"]}, lambda t: t in ("Kyoto", "Tokyo")),
        ({"type": "regex", "regex": "[A-Z][a-z]{2,8}"}, lambda t: t.isalpha() and t[0].isupper()),
        (
            {"type": "json_schema", "json_schema": {"type": "object", "required": ["city"],
             "properties": {"city": {"type": "string", "maxLength": 16}},
             "additionalProperties": False}},
            lambda t: json.loads(t).keys() == {"city"},
        ),
    ],
    ids=["choice", "regex", "json_schema"],
)  # fmt: skip
def test_structured_answers(smollm2: Server, response_format: object, holds: object) -> None:
    body = {"model": smollm2.model, "response_format": response_format} | JAPAN | {"max_tokens": 64}
    answer = smollm2.post("/v1/generate", body)
    assert answer.status_code == 200, answer.text
    assert holds(answer.json()["outputs"][0]["text"])  # type: ignore[operator]


def test_classify_ranks_and_sums_to_one(smollm2: Server) -> None:
    body = SENTIMENT | {"model": smollm2.model, "input": NEGATIVE[0]}
    (result,) = smollm2.post("/v1/classify", body).json()["data"]
    assert result["label"] == "negative"
    assert result["score"] > CLEAR
    assert sum(score["score"] for score in result["scores"]) == pytest.approx(1)


def test_tokens_round_trip(smollm2: Server) -> None:
    tokens = smollm2.post("/v1/tokenize", {"model": smollm2.model, "prompt": "Hello, world"}).json()
    assert tokens["count"] == len(tokens["tokens"])
    text = smollm2.post("/v1/detokenize", {"model": smollm2.model, "tokens": tokens["tokens"]})
    assert text.json() == {"text": "Hello, world"}


def test_a_prompt_that_does_not_fit_is_refused_and_never_cut(smollm2: Server) -> None:
    body = {"model": smollm2.model, "prompt": "word " * 2100, "max_tokens": 1}
    answer = smollm2.post("/v1/generate", body)
    assert answer.status_code == 400
    assert "2048" in answer.json()["error"]["message"]


def test_every_served_model_has_its_bill_of_materials(smollm2: Server) -> None:
    names = [each["name"] for each in httpx.get(f"{smollm2.url}/v1/adapters").json()["data"]]
    bills = [httpx.get(f"{smollm2.url}/v1/adapters/{name}/bom") for name in names]
    components = [each.json()["metadata"]["component"] for each in bills]
    assert [each["name"] for each in components] == names
    listed = httpx.get(f"{smollm2.ops}/bom", timeout=300).json()["components"]
    assert listed[0]["name"] == smollm2.model
    assert listed[1 : len(names) + 1] == components


def test_metrics_hold_ours_and_vllms(smollm2: Server) -> None:
    smollm2.post("/v1/generate", {"model": smollm2.model} | JAPAN)
    assert smollm2.metric("inference_requests_total") >= 1
    assert smollm2.metric("inference_tokens_total") > 0
    assert smollm2.metric("vllm:generation_tokens_total") > 0


def test_probes_and_health(smollm2: Server) -> None:
    for probe in ("livez", "readyz", "startupz"):
        assert httpx.get(f"{smollm2.ops}/{probe}").status_code == 200
    assert httpx.get(f"{smollm2.url}/health").json() == {"status": "ok"}
    assert httpx.get(f"{smollm2.url}/metrics").status_code == 404


def test_the_local_configuration_is_valid_for_the_engine() -> None:
    from service.vllm.arguments import parse_engine_arguments

    arguments = parse_engine_arguments(load_settings(Path("deploy/local/config.yaml")))
    assert arguments.max_num_seqs == 32
    assert arguments.enable_prompt_tokens_details
