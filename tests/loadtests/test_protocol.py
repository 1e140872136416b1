"""Answers of servers, and their reading."""

import json
from dataclasses import replace
from typing import Any

import pytest

from loadtests.load.plan import Call
from loadtests.load.scenario import ScenarioError
from loadtests.load.text import Message
from loadtests.protocol.api import Api
from loadtests.protocol.apis import open_api
from loadtests.protocol.native import Native
from loadtests.protocol.openai import OpenAI
from loadtests.protocol.record import Exchange, Record, record_of
from loadtests.protocol.sse import Line, events
from loadtests.protocol.vllm import Scoring
from tests.loadtests.scenarios import CHAT, scenario
from tests.loadtests.scripted_server import DONE, closing, event, token

CALL = Call(
    index=7,
    turn=0,
    at=1.0,
    stage="x1",
    workload="chat",
    tenant="default",
    model="base",
    messages=(Message("system", "be brief"), Message("user", "why?")),
    max_tokens=9,
)
BATCH = Call(
    index=8,
    turn=0,
    at=1.0,
    stage="x1",
    workload="classify",
    tenant="default",
    model="base",
    task="classify",
    inputs=("good", "bad"),
    labels=("positive", "negative"),
    instruction="Classify.",
)


def lines(*pieces: bytes) -> list[Line]:
    """Lines whose end arrives at 0.1 s for the first piece, 0.2 s for the second, and so on.

    Pieces are joined before they are split, as a socket does.
    """
    found: list[Line] = []
    rest = b""
    for position, piece in enumerate(pieces, 1):
        rest += piece
        while b"\n" in rest:
            line, rest = rest.split(b"\n", 1)
            found.append((position / 10, line + b"\n"))
    return found


def heard(api: Api, *pieces: bytes, **fields: Any) -> Record:
    exchange = Exchange(sent=1.0, ended=1.5, status=200, lines=lines(*pieces))
    for name, value in fields.items():
        setattr(exchange, name, value)
    return record_of(CALL, exchange, api, worker=0)[0]


def chunk(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def delta(usage: dict[str, int] | None = None, finish: str | None = None, **of: Any) -> bytes:
    return chunk(choices=[{"index": 0, "delta": of, "finish_reason": finish}], usage=usage)


def test_events_follow_the_standard() -> None:
    stream = lines(
        b": ping\n\n",
        b"data: one\r\n\r\n",
        b"event: x\nid: 3\ndata:two\ndata: lines\n\n",
        b"\n\ndata: cut",
    )
    assert [(e.at, e.data) for e in events(stream)] == [(0.2, b"one"), (0.3, b"two\nlines")]


def test_a_native_stream() -> None:
    record = heard(
        Native(),
        token("Hel"),
        token("lo"),
        token("", "stop"),
        closing(12, 3),
        DONE,
    )
    assert record.outcome == "ok"
    assert record.chunks == [0.1, 0.2]
    assert record.finish_reason == "stop"
    assert (record.prompt_tokens, record.completion_tokens) == (12, 3)
    assert record.queue_s == 0.0015
    assert record.e2e == 1.5


def test_a_character_cut_by_a_packet_is_whole_again() -> None:
    whole = event(id="r", index=0, text="é", finish_reason=None).replace(b"\\u00e9", b"\xc3\xa9")
    cut = whole.index(b"\xc3") + 1
    exchange = Exchange(sent=0.0, status=200, lines=lines(whole[:cut], whole[cut:], DONE))
    record, text = record_of(CALL, exchange, Native(), worker=0)
    assert (text, record.chunks) == ("é", [0.2])


def test_several_events_in_a_packet_are_several_chunks() -> None:
    record = heard(Native(), token("a") + token("b") + token("c"), closing(1, 3) + DONE)
    assert record.chunks == [0.1, 0.1, 0.1]


def test_the_role_is_no_first_token_but_is_remembered() -> None:
    record = heard(
        OpenAI(chat=True),
        delta(role="assistant", content=""),
        delta(content="Hi"),
        delta(finish="stop"),
        chunk(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 2}),
        DONE,
    )
    assert record.outcome == "ok"
    assert record.chunks == [0.2]
    assert record.first_event == 0.1
    assert (record.prompt_tokens, record.completion_tokens) == (5, 2)


def test_several_tokens_in_a_chunk_are_counted_where_the_server_counts() -> None:
    record = heard(
        OpenAI(chat=True),
        delta(content="one", usage={"completion_tokens": 1}),
        delta(content=" two three", usage={"completion_tokens": 3}),
        chunk(choices=[], usage={"prompt_tokens": 5, "completion_tokens": 3}),
        DONE,
    )
    assert record.chunk_tokens == [1, 2]


@pytest.mark.parametrize(
    "of",
    [
        {"content": "x"},
        {"reasoning_content": "x"},
        {"reasoning": "x"},
        {"tool_calls": [{"function": {"arguments": "{"}}]},
    ],
)
def test_thoughts_and_tool_calls_are_content(of: dict[str, Any]) -> None:
    assert heard(OpenAI(chat=True), delta(**of), DONE).chunks == [0.1]


def test_completions_and_cached_tokens() -> None:
    usage = {
        "prompt_tokens": 5,
        "completion_tokens": 1,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    record = heard(
        OpenAI(chat=False),
        chunk(choices=[{"text": "w"}]),
        chunk(choices=[], usage=usage),
        DONE,
    )
    assert (record.chunks, record.cached_tokens) == ([0.1], 4)


ERROR = {"error": {"code": "queue_full", "message": "The queue is full."}}


@pytest.mark.parametrize("api", [Native(), OpenAI(chat=True)])
def test_an_error_in_the_stream_is_a_failure(api: Api) -> None:
    record = heard(api, event(**ERROR))
    assert record.outcome == "stream_error"
    assert record.error == "queue_full: The queue is full."


def test_an_error_after_tokens_is_a_failure_even_with_done() -> None:
    assert heard(Native(), token(), event(**ERROR), DONE).outcome == "stream_error"


@pytest.mark.parametrize(
    ("pieces", "fields", "outcome"),
    [
        ((token(), closing(1, 1)), {}, "truncated"),
        ((token(), b"data: [DONE]\n"), {}, "truncated"),
        ((token(),), {"broken": "truncated", "detail": "closed"}, "truncated"),
        ((token(),), {"broken": "reset"}, "reset"),
        ((token(),), {"broken": "timeout"}, "timeout"),
        ((), {"broken": "unreachable", "status": None}, "unreachable"),
        ((token(), token()), {"hung_up": True}, "cancelled"),
        ((token(), b"data: {not json\n\n", DONE), {}, "malformed"),
        ((b"data: 3\n\n", DONE), {}, "malformed"),
        ((token(), closing(1, 1), DONE), {"broken": "reset"}, "ok"),
        ((DONE,), {}, "ok"),
    ],
)
def test_every_way_to_end_has_its_outcome(
    pieces: tuple[bytes, ...], fields: dict[str, Any], outcome: str
) -> None:
    assert heard(Native(), *pieces, **fields).outcome == outcome


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (429, "refused"),
        (503, "refused"),
        (504, "deadline"),
        (400, "http_error"),
        (500, "http_error"),
    ],
)
def test_a_status_says_its_outcome_and_its_message(status: int, outcome: str) -> None:
    body = json.dumps(ERROR).encode()
    record = heard(Native(), status=status, body=body)
    assert record.outcome == outcome
    assert record.error == f"{status} queue_full: The queue is full."


def test_a_status_without_json_is_quoted() -> None:
    assert heard(Native(), status=502, body=b"<html>bad gateway").error == "502 <html>bad gateway"


def test_a_batch_is_classified_natively() -> None:
    request = Native().request(BATCH)
    assert request.path == "/v1/classify"
    assert not request.stream
    assert request.body == {
        "model": "base",
        "input": ["good", "bad"],
        "candidate_labels": ["positive", "negative"],
        "instruction": "Classify.",
    }
    answer = {"data": [{"index": 0, "label": "positive"}, {"index": 1, "label": "negative"}]}
    body = json.dumps(answer | {"usage": {"prompt_tokens": 9}}).encode()
    exchange = Exchange(sent=0.0, ended=0.2, status=200, body=body)
    record, _ = record_of(BATCH, exchange, Native(), worker=0)
    assert (record.outcome, record.task, record.items) == ("ok", "classify", 2)
    assert record.prompt_tokens == 9


def test_one_failed_input_fails_the_batch() -> None:
    body = b'{"data": [{"index": 0, "label": "a"}, {"index": 1, "error": "too long"}]}'
    exchange = Exchange(sent=0.0, ended=0.2, status=200, body=body)
    record, _ = record_of(BATCH, exchange, Native(), worker=0)
    assert (record.outcome, record.error) == ("stream_error", "1 of 2 inputs failed: too long")


def test_a_peer_classifies_by_constrained_completion() -> None:
    request = OpenAI(chat=True).request(BATCH)
    assert request.path == "/v1/completions"
    assert len(request.body["prompt"]) == 2
    assert request.body["structured_outputs"] == {"choice": ["positive", "negative"]}
    body = b'{"choices": [{"text": "positive"}, {"text": "negative"}]}'
    exchange = Exchange(sent=0.0, ended=0.2, status=200, body=body)
    record, _ = record_of(BATCH, exchange, OpenAI(chat=True), worker=0)
    assert (record.outcome, record.items) == ("ok", 2)


@pytest.mark.parametrize("api", [Native(), OpenAI(chat=True), Scoring(chat=True)])
def test_embeddings_are_asked_by_one_route_of_all(api: Api) -> None:
    call = replace(BATCH, task="embed", labels=())
    request = api.request(call)
    assert (request.path, request.stream) == ("/v1/embeddings", False)
    assert request.body == {"model": "base", "input": ["good", "bad"]}
    answer = {"data": [{"index": 0, "embedding": [0.1]}, {"index": 1, "embedding": [0.2]}]}
    body = json.dumps(answer | {"usage": {"prompt_tokens": 9, "total_tokens": 9}}).encode()
    exchange = Exchange(sent=0.0, ended=0.2, status=200, body=body)
    record, _ = record_of(call, exchange, api, worker=0)
    assert (record.outcome, record.task, record.items) == ("ok", "embed", 2)
    assert record.prompt_tokens == 9


def test_a_head_is_asked_by_vllms_own_route() -> None:
    call = replace(BATCH, labels=())
    request = open_api("vllm-pooling", scenario()).request(call)
    assert request.path == "/classify"
    assert request.body == {"model": "base", "input": ["good", "bad"]}


@pytest.mark.parametrize("body", [b"{}", b"oops", b"[]"])
@pytest.mark.parametrize("api", [Native(), OpenAI(chat=False)])
def test_a_body_that_is_no_classification_is_malformed(api: Api, body: bytes) -> None:
    exchange = Exchange(sent=0.0, ended=0.2, status=200, body=body)
    assert record_of(BATCH, exchange, api, worker=0)[0].outcome == "malformed"


def test_requests_on_the_wire() -> None:
    native = Native().request(CALL)
    assert native.path == "/v1/generate"
    assert native.body == {
        "model": "base",
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "why?"},
        ],
        "max_tokens": 9,
        "temperature": 0.0,
        "stream": True,
    }
    raw = Call(**{name: getattr(CALL, name) for name in CALL.__slots__} | {"chat": False})
    assert Native().request(raw).body["prompt"] == "be brief\n\nwhy?"
    chat = OpenAI(chat=True).request(CALL)
    assert chat.path == "/v1/chat/completions"
    assert chat.body["stream_options"] == {"include_usage": True}
    assert OpenAI(chat=False).request(CALL).body["prompt"] == "be brief\n\nwhy?"


@pytest.mark.parametrize("api", [Native(), OpenAI(chat=True), OpenAI(chat=False)])
def test_a_workload_may_ask_for_whole_answers(api: Native | OpenAI) -> None:
    request = api.request(replace(CALL, extra={"stream": False, "service_tier": "flex"}))
    assert not request.stream
    assert request.body["stream"] is False
    assert request.body["service_tier"] == "flex"
    assert "stream_options" not in request.body
    part = "outputs" if isinstance(api, Native) else "choices"
    usage = {"prompt_tokens": 3, "completion_tokens": 5}
    body = json.dumps({part: [{"text": "why not"}], "usage": usage}).encode()
    whole = heard(api, body=body)
    assert (whole.outcome, whole.task, whole.items) == ("ok", "generate", 0)
    assert whole.tokens == 5


def test_a_peer_needs_labels_to_classify() -> None:
    unlabelled = {"kind": "classify", "input": {"kind": "fixed", "tokens": 4}}
    with pytest.raises(ScenarioError, match="must have labels"):
        open_api("openai-chat", scenario(workloads=[CHAT, unlabelled]))
    assert isinstance(open_api("native", scenario(workloads=[CHAT, unlabelled])), Native)


def test_rows_come_back_as_they_were() -> None:
    record = heard(Native(), token(), closing(3, 1), DONE)
    assert Record.from_row(json.loads(json.dumps(record.row()))) == record
