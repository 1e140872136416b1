"""Answers that a deadline ends with the text so far (`admission.at_deadline: length`)."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests.processes import wait_until
from tests.served.configuration import tiny_config
from tests.served.server import Server, running_server

MOST = 8000
CHAT = {"messages": [{"role": "user", "content": "a"}], "ignore_eos": True, "max_tokens": MOST}
TEXT = {"prompt": "a", "ignore_eos": True, "max_tokens": MOST}
NATIVE = {"prompt": "a", "temperature": 0, "max_tokens": MOST}
RESPONSE = {"input": "a", "temperature": 0, "max_output_tokens": MOST, "store": False}
MESSAGE = {"messages": CHAT["messages"], "temperature": 0, "max_tokens": MOST}


@pytest.fixture(scope="module")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    config = tiny_config(tiny_folder, max_model_len=8192)
    config["admission"] |= {"at_deadline": "length"}
    with running_server(tmp_path_factory.mktemp("cut"), config) as running:
        yield running


def cut(server: Server, path: str, body: dict[str, Any]) -> httpx.Response:
    """The answer to a request whose deadline leaves it the time for a token."""
    for timeout_ms in (500, 1000, 2000, 4000, 8000, 16_000):
        headers = {"x-request-timeout-ms": str(timeout_ms)}
        answer = server.post(path, {"model": "tiny"} | body, headers=headers)
        if answer.status_code != 504:
            break
    assert answer.status_code == 200, answer.text
    return answer


def events(answer: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in answer.text.splitlines() if line.startswith("data: {")]
    return [json.loads(line.removeprefix("data: ")) for line in lines]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", TEXT),
        ("/v1/completions", TEXT | {"n": 2}),
        ("/v1/chat/completions", CHAT),
        ("/v1/chat/completions", CHAT | {"n": 2, "stop": ["no such text"]}),
    ],
    ids=["completion", "two completions", "chat", "two chats"],
)
def test_a_whole_answer_is_cut(server: Server, path: str, body: dict[str, Any]) -> None:
    answer = cut(server, path, body).json()
    assert [each["finish_reason"] for each in answer["choices"]] == ["length"] * body.get("n", 1)
    assert 0 < answer["usage"]["completion_tokens"] < MOST
    running = "vllm:num_requests_running"
    wait_until(lambda: server.metric(running) == 0, 300, "an engine that ended it")


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/completions", TEXT), ("/v1/chat/completions", CHAT)]
)
@pytest.mark.parametrize("more", [{}, {"logprobs": 1}, {"n": 2}], ids=["plain", "logprobs", "two"])
def test_a_stream_is_cut(
    server: Server, path: str, body: dict[str, Any], more: dict[str, Any]
) -> None:
    if "logprobs" in more and "messages" in body:
        more = {"logprobs": True}
    asked = {"stream": True, "stream_options": {"include_usage": True}}
    answer = cut(server, path, body | more | asked)
    *chunks, last = events(answer)
    ends = [each["choices"][0]["finish_reason"] for each in chunks]
    assert [end for end in ends if end] == ["length"] * more.get("n", 1)
    assert 0 < last["usage"]["completion_tokens"] < MOST
    assert answer.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("more", [{}, {"n": 2, "temperature": 1}, {"confidence": True}])
def test_a_native_answer_is_cut(server: Server, more: dict[str, Any]) -> None:
    body = NATIVE | more
    whole = cut(server, "/v1/generate", body).json()
    assert {each["finish_reason"] for each in whole["outputs"]} == {"length"}
    assert 0 < whole["usage"]["completion_tokens"] < MOST
    chunks = events(cut(server, "/v1/generate", body | {"stream": True}))
    assert {each.get("finish_reason") for each in chunks} == {None, "length"}
    assert 0 < chunks[-1]["usage"]["completion_tokens"] < MOST


def test_a_response_is_incomplete(server: Server) -> None:
    whole = cut(server, "/v1/responses", RESPONSE).json()
    last = events(cut(server, "/v1/responses", RESPONSE | {"stream": True}))[-1]
    assert last["type"] == "response.incomplete"
    for answer in (whole, last["response"]):
        assert answer["status"] == "incomplete"
        assert answer["incomplete_details"] == {"reason": "max_output_tokens"}


def test_a_message_reached_its_maximum(server: Server) -> None:
    assert cut(server, "/v1/messages", MESSAGE).json()["stop_reason"] == "max_tokens"
    streamed = events(cut(server, "/v1/messages", MESSAGE | {"stream": True}))
    reasons = [each["delta"]["stop_reason"] for each in streamed if each["type"] == "message_delta"]
    assert reasons == ["max_tokens"]


def test_without_a_token_it_is_refused(server: Server) -> None:
    headers = {"x-request-timeout-ms": "1"}
    # Reading a long prompt takes longer than that; a short one's token can come at the same time.
    long = {"prompt": "a b " * 2000, "max_tokens": 8}
    answer = server.post("/v1/completions", {"model": "tiny"} | long, headers=headers)
    assert answer.status_code == 504, answer.text
    assert answer.headers["x-should-retry"] == "false"
