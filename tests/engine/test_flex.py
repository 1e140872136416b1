"""Flex requests on the real engine: beside interactive ones, waiting, giving way, at a drain."""

import json
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from loadtests.processes import wait_until
from tests.answers import refusal
from tests.served.configuration import tiny_config
from tests.served.server import PATIENT, Server, running_server, started_server

SLOTS = 4
LONG: dict[str, Any] = {"model": "tiny", "prompt": "Hello", "max_tokens": 800, "temperature": 0}
SHORT = LONG | {"max_tokens": 8}
PATIENCE_S = 300


def config_of(folder: Path, **admission: Any) -> dict[str, Any]:
    config = tiny_config(folder, max_num_seqs=SLOTS)
    return config | PATIENT | {"admission": PATIENT["admission"] | admission}


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with running_server(tmp_path_factory.mktemp("flex"), config_of(tiny_folder)) as running:
        yield running


class Crowd:
    """Requests at once, each in a thread."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._threads = ThreadPoolExecutor(32)

    def ask(
        self, count: int, body: dict[str, Any], path: str = "/v1/generate"
    ) -> list["Future[httpx.Response]"]:
        post = self._server.post
        return [self._threads.submit(post, path, body) for _ in range(count)]

    def until(self, metric: str, value: float) -> None:
        name = f"inference_{metric}"
        wait_until(lambda: self._server.metric(name) == value, PATIENCE_S, f"{name} {value}")


def flex(body: dict[str, Any]) -> dict[str, Any]:
    return body | {"service_tier": "flex"}


def test_flex_gives_way_and_is_answered_as_if_it_had_not(server: Server) -> None:
    crowd = Crowd(server)
    alone = server.post("/v1/generate", LONG).json()["outputs"]
    background = crowd.ask(5, flex(LONG))
    crowd.until("flex_requests_in_flight", SLOTS - 1)
    assert server.metric("inference_flex_requests_queued") == 2
    people = crowd.ask(SLOTS, SHORT)
    for answer in people:
        assert answer.result().status_code == 200
    assert server.metric("inference_preemptions_total") >= 1
    for each in background:
        answer = each.result().json()
        assert answer["timing"]["service_tier"] == "flex"
        assert answer["outputs"] == alone
    crowd.until("flex_requests_in_flight", 0)
    assert server.metric("inference_requests_in_flight") == 0


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions"])
@pytest.mark.parametrize("stream", [False, True])
def test_openais_answers_name_the_tier(server: Server, path: str, stream: bool) -> None:
    asked = {"prompt": "Hello"} if path == "/v1/completions" else {"messages": _messages("Hello")}
    body = {"model": "tiny", "max_tokens": 4, "stream": stream, **asked}
    for tier, named in ((None, None), ("auto", "default"), ("flex", "flex")):
        fields = {} if tier is None else {"service_tier": tier}
        answer = server.post(path, body | fields)
        assert answer.status_code == 200, answer.text
        for part in _parts(answer, stream):
            assert part.get("service_tier") == named
    assert (
        "service_tier"
        in refusal(server.post(path, flex(body) | {"service_tier": "x"}), 400)["message"]
    )


def test_openais_client_reads_it(server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none")
    answer = client.chat.completions.create(
        model="tiny",
        messages=[{"role": "user", "content": "Hello"}],
        max_tokens=4,
        service_tier="flex",
    )
    assert answer.service_tier == "flex"
    assert answer.usage is not None
    assert answer.usage.completion_tokens <= 4


def test_every_route_takes_the_tier(server: Server) -> None:
    body = {"model": "tiny", "input": ["a", "b"], "candidate_labels": ["x", "y"]}
    answer = server.post("/v1/classify", flex(body))
    assert answer.json()["timing"]["service_tier"] == "flex"
    answer = server.post("/v1/generate", SHORT, headers={"X-Service-Tier": "flex"})
    assert answer.json()["timing"]["service_tier"] == "flex"


@pytest.fixture(scope="module")
def narrow(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of one request at a time, none of which waits unless it is flex."""
    config = config_of(tiny_folder, max_queued=0, max_in_flight=1)
    config["drain"] = {"lame_duck_s": 0, "budget_s": 0.5}
    with started_server(tmp_path_factory.mktemp("narrow"), config) as running:
        yield running


def test_flex_waits_where_an_interactive_request_is_refused(narrow: Server) -> None:
    crowd = Crowd(narrow)
    held = crowd.ask(1, LONG)
    crowd.until("requests_in_flight", 1)
    waits = crowd.ask(3, flex(SHORT))
    crowd.until("flex_requests_queued", 3)
    late = narrow.post("/v1/generate", flex(SHORT) | {"timeout_ms": 1})
    assert "for its turn" in refusal(late, 504)["message"]
    for each in (*held, *waits):
        assert each.result().status_code == 200


def test_a_full_queue_refuses_before_the_prompt_is_rendered(narrow: Server) -> None:
    crowd = Crowd(narrow)
    held = crowd.ask(1, LONG)
    crowd.until("requests_in_flight", 1)
    long = {"model": "tiny", "messages": _messages("word " * 20_000)}
    assert refusal(narrow.post("/v1/chat/completions", long), 503)["code"] == "queue_full"
    assert held[0].result().status_code == 200
    error = refusal(narrow.post("/v1/chat/completions", long), 400)
    assert error["code"] == "context_length_exceeded"


def test_a_drain_ends_what_waits(narrow: Server) -> None:
    crowd = Crowd(narrow)
    running = crowd.ask(1, LONG | {"max_tokens": 2000, "temperature": 1.0})
    crowd.until("requests_in_flight", 1)
    waits = crowd.ask(4, flex(SHORT))
    crowd.until("flex_requests_queued", 4)
    narrow.process.send_signal(signal.SIGTERM)
    for each in waits:
        assert refusal(each.result(), 503)["code"] == "draining"
    for each in running:
        each.exception()
    assert narrow.process.wait(PATIENCE_S) == 0


def _messages(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def _parts(answer: httpx.Response, stream: bool) -> list[dict[str, Any]]:
    if not stream:
        return [answer.json()]
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
    return [json.loads(line) for line in lines if line != "[DONE]"]
