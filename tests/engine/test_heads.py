"""A head from its lines to answers of the service, on the real engine."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
import yaml

from service.adapters.heads import HeadManifest, load_manifest
from tests.adapters.packed import values_of
from tests.answers import error_of
from tests.fuzz import moderations, requests
from tests.served.configuration import SMALL_ENCODER, tiny_config
from tests.served.server import Server, ran, running_server
from tests.served.tiny_encoder import build_tiny_encoder
from tests.training.conftest import films, films_run

TEXTS = ["the film 7 was good", "the film 8 was bad", "rain in paris"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The head that `llm-service finetune` packs."""
    root = tmp_path_factory.mktemp("run")
    build_tiny_encoder(root / "encoder", ["a", "b", "c"], spread=0.05)
    (root / "lines.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in films(200)))
    run: dict[str, Any] = films_run(root / "encoder") | {
        "head": {},
        "training": {
            "epochs": 6,
            "batch_tokens": 128,
            "dtype": "float32",
            "learning_rate": 0.003,
            "patience": 24,
            "threads": 1,
        },
        "evaluation": {"golden": 4, "coverage": 0.95, "engine": SMALL_ENCODER},
    }
    run["data"]["max_tokens"] = 64
    del run["prompt"]
    (root / "run.yaml").write_text(yaml.safe_dump(run))
    command = ("service.cli.main", "finetune", str(root / "run.yaml"), "--json")
    code = ran(root / "log", *command, VLLM_CPU_KVCACHE_SPACE="1")
    told = (root / "log").read_text()
    assert code == 0, told[-4000:]
    assert "Traceback" not in told
    (figures,) = [json.loads(line) for line in told.splitlines() if line.startswith('{"head"')]
    assert figures["head"]["accuracy"] > 0.9
    assert "digest: sha256:" in told
    return root / "adapters/films"


@pytest.fixture(scope="module")
def head(folder: Path) -> HeadManifest:
    found = load_manifest(folder)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def server(
    tiny_folder: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    config = tiny_config(tiny_folder)
    config["engine"] = config["engine"] | {"gpu_memory_utilization": 0.2}
    config["encoders"] = [{"name": "films", "path": str(folder), "engine": SMALL_ENCODER}]
    config["guards"] = {
        "named": {"boos": {"model": "films", "labels": ["negative"], "threshold": 0.6}},
        "default": {"input": ["boos"]},
    }
    with running_server(tmp_path_factory.mktemp("served"), config) as running:
        yield running


async def test_answers_are_the_calibrated_ones_of_transformers(
    server: Server, folder: Path, head: HeadManifest
) -> None:
    data = server.post("/v1/classify", {"model": "films", "input": TEXTS}).json()["data"]
    assert head.conformal is not None
    for each, values in zip(data, await values_of(folder, TEXTS), strict=True):
        expected = np.exp(np.array(values) / head.calibration.temperature)
        expected /= expected.sum()
        assert each["probs"] == pytest.approx(expected, abs=1e-3)
        applies = [label for label, p in zip(head.labels, expected, strict=True)
                   if p >= head.conformal.least]  # fmt: skip
        assert sorted(each["label_set"]) == applies
    assert [each["label"] for each in data[:2]] == ["positive", "negative"]


def test_it_abstains_below_the_callers_threshold(server: Server) -> None:
    body = {"model": "films", "input": [*TEXTS, "film", "was the"]}
    data = server.post("/v1/classify", body).json()["data"]
    least = min(max(each["probs"]) for each in data)
    assert least < 1  # the head is sure of its own lines
    above = server.post("/v1/classify", body | {"threshold": (1 + least) / 2}).json()["data"]
    assert [each["abstained"] for each in above] == [
        max(each["probs"]) < (1 + least) / 2 or not each["label_set"] for each in data
    ]
    assert any(each["label"] is None for each in above)


def test_the_start_tells_the_proof(server: Server) -> None:
    assert "encoder films: 4 of 4 golden examples right" in server.log.read_text()


def test_openais_client_asks_the_head_as_a_guard(server: Server) -> None:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.moderations.create(input=TEXTS[:2])
    assert [each.flagged for each in answer.results] == [False, True]
    data = server.post("/v1/classify", {"model": "films", "input": TEXTS[:2]}).json()["data"]
    for each, result in zip(data, answer.results, strict=True):
        negative = {score["label"]: score["score"] for score in each["scores"]}["negative"]
        scores = result.category_scores.model_dump()
        assert scores["boos/negative"] == pytest.approx(negative, abs=1e-5)


async def test_random_moderations_get_a_verdict_for_each_text_or_a_reason(server: Server) -> None:
    outcomes = await requests.fuzz(server.url, 120, seed=7, paths=[moderations.PATH])
    assert outcomes[f"{moderations.PATH} ok"] > 40
    assert outcomes[f"{moderations.PATH} model_not_found"] > 5
    assert outcomes[f"{moderations.PATH} invalid_value"] > 5


def said(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "max_tokens": 4}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/generate", lambda text: {"prompt": text, "max_tokens": 4}),
        ("/v1/completions", lambda text: {"prompt": text, "max_tokens": 4}),
        ("/v1/chat/completions", said),
        ("/v1/responses", lambda text: {"input": text, "max_output_tokens": 4}),
        ("/v1/messages", said),
    ],
)
def test_every_route_that_generates_is_guarded(
    server: Server, path: str, body: Any, stream: bool
) -> None:
    fields = {"model": server.model, "stream": stream}
    assert server.post(path, fields | body(TEXTS[0])).status_code == 200
    refused = server.post(path, fields | body(TEXTS[1]))
    assert refused.status_code == 400, refused.text
    error = error_of(refused.json())
    assert error["code"] == "input_flagged"
    assert ("'boos'" in error["message"], TEXTS[1] in error["message"]) == (True, False)


def test_a_prompt_of_token_ids_is_read_as_its_text(server: Server) -> None:
    tokens = server.post("/v1/tokenize", {"prompt": TEXTS[1]}).json()["tokens"]
    body = {"model": server.model, "prompt": tokens, "max_tokens": 4}
    assert error_of(server.post("/v1/completions", body).json())["code"] == "input_flagged"
