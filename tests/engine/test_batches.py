"""Batches on the real engine: OpenAI's client, every endpoint, and kills in the middle."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.faults.batch_kills import survive
from tests.plugins.batches.inputs import jsonl, read
from tests.served.configuration import tiny_config
from tests.served.server import Server, running_server

LABELS = {"input": ["good", "bad"], "candidate_labels": ["x", "y"], "calibrate": False}
MESSAGES = [{"role": "user", "content": "Hello"}]
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": MESSAGES, "max_tokens": 4},
    "/v1/completions": {"prompt": ["a", "b"], "max_tokens": 4},
    "/v1/generate": {"prompt": "a", "max_tokens": 4},
    "/v1/classify": LABELS,
    "/v1/responses": {"input": "Hello", "max_output_tokens": 4, "store": False},
    "/v1/messages": {"messages": MESSAGES, "max_tokens": 4},
}
PATIENCE_S = 300


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("batches")
    config = tiny_config(tiny_folder) | {"batches": {"path": str(folder / "kept")}}
    with running_server(folder, config) as running:
        yield running


def answered(server: Server, content: bytes, endpoint: Any) -> tuple[Any, list[Any], list[Any]]:
    """A batch that ended, and the lines of its two files."""
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    file = client.files.create(file=("in.jsonl", content), purpose="batch")
    batch = client.batches.create(
        input_file_id=file.id, endpoint=endpoint, completion_window="24h", metadata={"k": "v"}
    )
    deadline = time.monotonic() + PATIENCE_S
    while batch.status in ("validating", "in_progress", "finalizing"):
        assert time.monotonic() < deadline, batch
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    output, errors = (
        [] if name is None else read(client.files.content(name).content)
        for name in (batch.output_file_id, batch.error_file_id)
    )
    return batch, output, errors


@pytest.mark.parametrize("endpoint", BODIES)
def test_every_endpoint_answers_in_a_batch_as_over_http(server: Server, endpoint: str) -> None:
    body = {"model": "tiny", "temperature": 0, **BODIES[endpoint]}
    if endpoint == "/v1/classify":
        del body["temperature"]
    bodies = {"good": body, "unknown": body | {"model": "none"}, "wrong": body | {"nonsense": 1}}
    lines = [
        {"custom_id": name, "method": "POST", "url": endpoint, "body": each}
        for name, each in bodies.items()
    ]
    batch, output, errors = answered(server, jsonl(*lines), endpoint)
    assert batch.status == "completed"
    assert [each["custom_id"] for each in errors] == ["unknown", "wrong"]
    assert [each["response"]["status_code"] for each in errors] == [404, 400]
    (answer,) = output
    alone = server.post(endpoint, body | {"service_tier": "flex"})
    assert alone.status_code == 200, alone.text
    assert substance(answer["response"]["body"]) == substance(alone.json())


def substance(answer: Any) -> Any:
    """An answer without what two answers to one request differ in."""
    own = ("id", "created", "created_at", "completed_at", "timing", "kv_transfer_params", "usage")
    if isinstance(answer, dict):
        return {key: substance(value) for key, value in answer.items() if key not in own}
    return [substance(each) for each in answer] if isinstance(answer, list) else answer


def test_a_file_that_is_not_jsonl_fails_with_line_numbers(server: Server) -> None:
    content = json.dumps({"custom_id": "a"}).encode() + b"\nnonsense\n"
    batch, *_ = answered(server, content, "/v1/completions")
    assert batch.status == "failed"
    assert [(e.line, e.code) for e in batch.errors.data] == [
        (1, "invalid_method"),
        (2, "invalid_json_line"),
    ]


@pytest.mark.slow
def test_a_service_that_is_killed_answers_every_line_once(
    tiny_folder: Path, tmp_path: Path
) -> None:
    survive(tmp_path, tiny_folder, kills=2, lines=60)
