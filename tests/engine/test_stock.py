"""Answers by vLLM's public client alone (`engine.client: stock`), beside those of the fast one."""

from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.engine.contract import CONTRACT, uphold
from tests.engine.in_process import Running, running_engine
from tests.served.configuration import tiny_config
from tests.served.server import Server, running_server

CHAT = {"messages": [{"role": "user", "content": "a"}], "max_tokens": 8, "temperature": 0}
BODIES: list[tuple[str, dict[str, Any]]] = [
    ("/v1/chat/completions", CHAT),
    ("/v1/chat/completions", CHAT | {"n": 3, "temperature": 1, "seed": 7}),
    ("/v1/completions", {"prompt": ["a", "b"], "max_tokens": 5, "temperature": 0}),
    ("/v1/generate", {"prompt": "a", "max_tokens": 5, "temperature": 0}),
    ("/v1/classify", {"input": ["x", "y"], "candidate_labels": ["good", "bad"]}),
]


@pytest.fixture(scope="module")
def stock(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tiny_config(tiny_folder, client="stock")
    with running_server(tmp_path_factory.mktemp("stock"), config) as running:
        yield running


@pytest.fixture(scope="module")
def running(tiny_folder: Path) -> Iterator[Running]:
    with running_engine(tiny_folder, sequences=8, client="stock") as engine:
        yield engine


@pytest.mark.parametrize("check", CONTRACT, ids=lambda check: check.__name__)
def test_the_public_client_upholds(
    running: Running, check: Callable[[Any, Any], Coroutine[Any, Any, None]]
) -> None:
    runner, engine, admission = running
    assert engine.model.client == "stock"
    runner.run(uphold(check, engine, admission))


def said(answer: httpx.Response) -> Any:
    """What an answer says, without ids and times."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    return [body.get(key) for key in ("choices", "outputs", "data", "usage")]


def test_whole_answers_and_reads_are_those_of_the_fast_client(stock: Server, tiny: Server) -> None:
    fast = [said(tiny.post(path, {"model": "tiny"} | body)) for path, body in BODIES]
    assert [said(stock.post(path, {"model": "tiny"} | body)) for path, body in BODIES] == fast


def test_streams_end_with_what_they_used(stock: Server) -> None:
    body = CHAT | {"model": "tiny", "stream": True, "stream_options": {"include_usage": True}}
    text = stock.post("/v1/chat/completions", body).text
    assert text.rstrip().endswith("data: [DONE]")
    assert '"completion_tokens":' in text


def test_the_client_is_shown(stock: Server) -> None:
    metrics = httpx.get(f"{stock.ops}/metrics", timeout=30).text
    assert 'inference_engine_client_info{client="stock",vllm=' in metrics
