"""Encoders without a language model, on the real engine."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import pytest
import torch
import yaml
from huggingface_hub import InferenceClient
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer
from typer.testing import CliRunner

from service.cli.main import app
from tests.answers import refusal
from tests.served.configuration import SMALL_ENCODER
from tests.served.server import PATIENT, Server, named, running_server
from tests.served.tiny_encoder import build_tiny_encoder

CLOSE = 1e-3
TOPICS = ("sports", "politics", "weather")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("encoders")
    build_tiny_encoder(root / "cross", ["LABEL_0"])
    build_tiny_encoder(root / "topics", TOPICS)
    _build_embedder(root / "topics", root / "embed")
    encoders = [
        {"name": name, "path": str(root / name), "engine": SMALL_ENCODER}
        for name in ("cross", "topics", "embed")
    ]
    tei = {"embed": "embed", "rerank": "cross", "predict": "topics"}
    return PATIENT | {"encoders": encoders, "tei": tei, "log": {"format": "console"}}


def _build_embedder(body: Path, target: Path) -> None:
    """Save the encoder without its head, pooled by the mean and normalised."""
    shutil.copytree(body, target)
    AutoModel.from_pretrained(body, dtype=torch.float32).save_pretrained(target)
    (target / "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 64, "pooling_mode_mean_tokens": True}
    (target / "1_Pooling/config.json").write_text(json.dumps(pooling))
    kinds = [("", "Transformer"), ("1_Pooling", "Pooling"), ("2_Normalize", "Normalize")]
    prefix = "sentence_transformers.models"
    modules = [
        {"idx": at, "name": str(at), "path": path, "type": f"{prefix}.{kind}"}
        for at, (path, kind) in enumerate(kinds)
    ]
    (target / "modules.json").write_text(json.dumps(modules))


@pytest.fixture(scope="module")
def server(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("served"), config) as running:
        yield running


def test_each_encoder_answers(server: Server) -> None:
    ranked = server.post(
        "/v1/rerank", {"model": "cross", "query": "capital", "documents": ["tokyo", "rain"]}
    )
    assert {each["index"] for each in ranked.json()["results"]} == {0, 1}
    classified = server.post("/v1/classify", {"model": "topics", "input": "the team wins"}).json()
    assert classified["data"][0]["label"] in TOPICS
    tokens = server.post("/v1/tokenize", {"model": "topics", "prompt": "the cat"}).json()
    assert (tokens["count"], tokens["max_model_len"]) == (4, 64)


def test_tei_gives_transformers_embeddings(server: Server, config: dict[str, Any]) -> None:
    folder = config["encoders"][2]["path"]
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder)
    texts = ["the cat sits outside", "rain"]
    expected = []
    for text in texts:
        with torch.no_grad():
            inputs = tokenizer(text, return_tensors="pt", padding=False)
            expected.append(model.eval()(**inputs).last_hidden_state.mean(1)[0].numpy())
    raw = server.post("/embed", {"inputs": texts, "normalize": False}).json()
    assert np.abs(np.array(raw) - expected).max() < CLOSE
    units = expected / np.linalg.norm(expected, axis=1, keepdims=True)
    vectors = np.array(server.post("/embed", {"inputs": texts}).json())
    assert np.abs(vectors - units).max() < CLOSE
    client = InferenceClient()
    one = client.feature_extraction(texts[0], model=f"{server.url}/embed", truncate=True)
    assert np.abs(one[0] - units[0]).max() < CLOSE


def test_tei_gives_transformers_scores(server: Server, config: dict[str, Any]) -> None:
    logits = [_logits(config, 0, ("capital", text))[0] for text in ("tokyo", "rain")]
    body = {"query": "capital", "texts": ["tokyo", "rain"]}
    raw = server.post("/rerank", body | {"raw_scores": True}).json()
    scored = server.post("/rerank", body).json()
    for each, own in zip(raw, scored, strict=True):
        assert each["score"] == pytest.approx(logits[each["index"]], abs=CLOSE)
        assert own["score"] == pytest.approx(1 / (1 + np.exp(-logits[own["index"]])), abs=CLOSE)


def test_tei_gives_transformers_predictions(server: Server, config: dict[str, Any]) -> None:
    inputs = [["the team wins"], ["the law passes", "rain and storm"]]
    found = server.post("/predict", {"inputs": inputs}).json()
    for texts, labels in zip(inputs, found, strict=True):
        expected = np.exp(_logits(config, 1, texts))
        expected /= expected.sum()
        for each in labels:
            assert each["score"] == pytest.approx(expected[TOPICS.index(each["label"])], abs=CLOSE)


def test_tei_refuses_or_cuts_longer_texts(server: Server) -> None:
    body = {"inputs": ["rain", "rain " * 80]}
    error = refusal(server.post("/embed", body), 400)
    assert "inputs[1]: 82 tokens are more than the model's context of 64" in error["message"]
    assert len(server.post("/embed", body | {"truncate": True}).json()) == 2
    assert server.metric("inference_truncated_inputs_total") == 1


def _logits(
    config: dict[str, Any], number: int, texts: Sequence[str]
) -> "np.typing.NDArray[np.float32]":
    folder = config["encoders"][number]["path"]
    model = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        inputs = AutoTokenizer.from_pretrained(folder)(*texts, return_tensors="pt", padding=False)
        return np.asarray(model(**inputs).logits[0])


def test_models_are_the_encoders(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    assert [model.id for model in client.models.list()] == ["cross", "topics", "embed"]
    assert client.models.retrieve("topics").id == "topics"
    with pytest.raises(openai.NotFoundError, match="'gpt' is not served here"):
        client.models.retrieve("gpt")


@pytest.mark.parametrize(
    "path",
    [
        "/v1/generate",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/responses",
        "/v1/messages",
        "/v1/messages/count_tokens",
        "/v1/detokenize",
    ],
)
def test_a_route_of_language_models_says_what_is_served(server: Server, path: str) -> None:
    error = refusal(server.post(path, {"model": "topics"}), 404)
    assert "no language model" in error["message"]
    assert "'topics' for /v1/classify" in error["message"]


def test_it_is_ready_and_shows_its_engines(server: Server) -> None:
    assert httpx.get(f"{server.url}/health").status_code == 200
    assert httpx.get(f"{server.ops}/readyz").status_code == 200
    metrics = httpx.get(f"{server.ops}/metrics").text
    for name in ("cross", "topics", "embed"):
        assert f'inference_admission_limit{{engine="{name}"}}' in metrics
    assert 'inference_build_info{digest="",model="",version=' in metrics
    engines = named("EngineCore", server.family())
    assert len(engines) == 3
    # They are forked from one process that has imported vLLM.
    (parent,) = {each.ppid() for each in engines}
    assert parent != server.process.pid


def test_the_log_says_that_there_are_encoders_only(server: Server) -> None:
    assert "ready: encoders only" in server.log.read_text()


def test_its_configuration_can_be_checked(config: dict[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(config))
    checked = CliRunner().invoke(app, ["serve", "--check", "--config", str(file)])
    assert checked.exit_code == 0, checked.stderr
    assert "memory: not estimated: there are encoders only" in checked.stderr
    assert yaml.safe_load(checked.stdout)["model"] is None
    half = {"gpu_memory_utilization": 0.6}
    too_much = [each | {"engine": half} for each in config["encoders"]]
    file.write_text(yaml.safe_dump(config | {"encoders": too_much}))
    refused = CliRunner().invoke(app, ["serve", "--check", "--config", str(file)])
    assert refused.exit_code == 2
    assert "at most 1 together, got cross 0.6, topics 0.6, embed 0.6" in refused.stderr
