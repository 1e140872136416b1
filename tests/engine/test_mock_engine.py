"""The service on the mock engine: every part of the service without a model."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import wait_until
from tests.served.configuration import ENGINE
from tests.served.server import PATIENT, Server, started_server

pytestmark = pytest.mark.slow

RATE = 50


@pytest.fixture(scope="module")
def mocked(smollm2_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = PATIENT | {
        "model": {"name": "smollm2", "path": str(smollm2_folder)},
        "engine": ENGINE | {"max_num_seqs": 1},
        "limits": {"unknown_fields": "ignore"},
    }
    program = ("tools.mock_engine", f"--rate={RATE}", "service.cli.main")
    with started_server(tmp_path_factory.mktemp("mocked"), config, *program) as server:
        yield server


def test_a_streamed_chat_has_as_many_tokens_as_it_asked_for(mocked: Server) -> None:
    answer = mocked.post(
        "/v1/chat/completions",
        {
            "model": "smollm2",
            "messages": [{"role": "user", "content": "Hello"}],
            "max_tokens": 20,
            "stream": True,
            "stream_options": {"include_usage": True},
        },
    )
    *events, done = [line[6:] for line in answer.text.splitlines() if line]
    chunks = [json.loads(event) for event in events]
    words = [
        choice["delta"]["content"]
        for chunk in chunks
        for choice in chunk["choices"]
        if choice["delta"].get("content")
    ]

    assert done == "[DONE]"
    assert len(words) == 20
    assert all(word[1:].isalpha() for word in words)
    assert chunks[-2]["choices"][0]["finish_reason"] == "length"
    assert chunks[-1]["usage"]["completion_tokens"] == 20


def test_a_classification_is_answered(mocked: Server) -> None:
    answer = mocked.post(
        "/v1/classify", {"model": "smollm2", "input": "x", "candidate_labels": ["yes", "no"]}
    ).json()

    assert sum(answer["data"][0]["probs"]) == pytest.approx(1)


def test_an_abort_frees_the_slot(mocked: Server) -> None:
    body = {"model": "smollm2", "prompt": "Hello", "max_tokens": 1900}
    with httpx.stream(
        "POST", f"{mocked.url}/v1/generate", json=body | {"stream": True}, timeout=300
    ) as stream:
        assert next(stream.iter_lines()).startswith("data: ")
        assert mocked.metric("vllm:num_requests_running") == 1
    # There is one slot, and the abandoned answer would have held it for 38 s.
    answer = mocked.post("/v1/generate", body | {"max_tokens": 2, "timeout_ms": 30_000})

    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 2
    wait_until(lambda: mocked.metric("vllm:num_requests_running") == 0, 300, "an idle engine")


@pytest.mark.parametrize("stream", [False, True])
def test_unknown_fields_that_are_ignored_are_named_and_counted(
    mocked: Server, stream: bool
) -> None:
    before = mocked.metric('inference_ignored_fields_total{field="num_ctx"}')
    odd: dict[str, Any] = {"num_ctx": 4096, "é\n": 1, "think": None}
    body = {"model": "smollm2", "prompt": "Hello", "max_tokens": 2, "stream": stream}
    answer = mocked.post("/v1/completions", body | odd)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-ignored-fields"] == "num_ctx, ?"
    wait_until(
        lambda: mocked.metric('inference_ignored_fields_total{field="num_ctx"}') == before + 1,
        300,
        "the count",
    )
    assert "x-ignored-fields" not in mocked.post("/v1/completions", body).headers


def test_a_known_field_that_is_not_served_is_refused_all_the_same(mocked: Server) -> None:
    body = {"model": "smollm2", "prompt": "Hello", "max_tokens": 2, "best_of": 4, "num_ctx": 1}
    answer = mocked.post("/v1/completions", body)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "best_of"
