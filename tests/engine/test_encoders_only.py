"""Encoders without a language model, on the real engine."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import yaml
from typer.testing import CliRunner

from service.commands.cli import app
from tests.answers import refusal
from tools.served.server import PATIENT, Server, running_server
from tools.served.tiny_encoder import build_tiny_encoder

EAGER = {"dtype": "float32", "enforce_eager": True, "gpu_memory_utilization": 0.05}
TOPICS = ("sports", "politics", "weather")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    root = tmp_path_factory.mktemp("encoders")
    build_tiny_encoder(root / "cross", ["LABEL_0"])
    build_tiny_encoder(root / "topics", TOPICS)
    encoders = [
        {"name": name, "path": str(root / name), "engine": EAGER} for name in ("cross", "topics")
    ]
    return PATIENT | {"encoders": encoders, "log": {"format": "console"}}


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


def test_models_are_the_encoders(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    assert [model.id for model in client.models.list()] == ["cross", "topics"]
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
    for name in ("cross", "topics"):
        assert f'inference_gate_limit{{engine="{name}"}}' in metrics
    assert 'inference_build_info{digest="",model="",version=' in metrics
    engines = [each for each in server.family() if "EngineCore" in " ".join(each.cmdline())]
    assert len(engines) == 2


def test_the_log_shows_what_to_try(server: Server) -> None:
    log = server.log.read_text()
    assert "ready: encoders only" in log
    (tried,) = [line for line in log.splitlines() if "try: curl" in line]
    assert "/v1/rerank" in tried
    assert '"model": "cross"' in tried


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
    assert "at most 1 together, got cross 0.6, topics 0.6" in refused.stderr
