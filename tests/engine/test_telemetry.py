"""Traces, logs and series of the whole service, including vLLM's own processes."""

import json
import time
from typing import Any

import httpx
import pytest

from loadtests.processes import wait_until
from tests.served.server import Server
from tests.telemetry.receiver import Receiver

CANARY = "canary-c41d09"
TRACE_ID, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
HEADERS = {
    "traceparent": f"00-{TRACE_ID}-{CALLER}-01",
    "authorization": f"Bearer key-{CANARY}",
}


@pytest.fixture(scope="module")
def answers(afresh: Server) -> list[httpx.Response]:
    """Answers to requests whose every text holds the canary; the last two fail."""
    chat = {"model": "traced", "max_tokens": 4, "messages": [{"role": "user", "content": CANARY}]}
    classify = {"model": "traced", "input": CANARY, "candidate_labels": [f"{CANARY} a", "b"]}
    schema = {"type": "json_schema", "json_schema": {"enum": [CANARY]}}
    generate = {"model": "traced", "prompt": CANARY, "max_tokens": 4}
    bodies: list[tuple[str, dict[str, Any]]] = [
        ("/v1/chat/completions", chat),
        ("/v1/chat/completions", chat | {"stream": True}),
        ("/v1/completions", generate),
        ("/v1/generate", generate),
        ("/v1/generate", generate | {"max_tokens": 64, "response_format": schema}),
        ("/v1/classify", classify),
        ("/v1/generate", generate | {"prompt": CANARY * 2000}),
        ("/v1/chat/completions", chat | {"max_tokens": -1}),
    ]
    return [afresh.post(path, body, headers=HEADERS) for path, body in bodies]


def test_the_engines_own_spans_hang_below_the_requests(
    receiver: Receiver, answers: list[httpx.Response]
) -> None:
    assert [answer.status_code for answer in answers[:6]] == [200] * 6
    wait_until(lambda: len(receiver.named("llm_request")) >= 7, 300, "vLLM's spans")
    wait_until(lambda: receiver.named("POST /v1/classify"), 300, "the last request's span")
    (request, *_) = receiver.named("POST /v1/chat/completions")
    assert (request.trace_id, request.parent_id) == (TRACE_ID, CALLER)
    assert request.attributes["gen_ai.operation.name"] == "chat"
    assert request.attributes["gen_ai.usage.output_tokens"] == 4
    stream = receiver.below(request)["inference.stream"]
    parts = receiver.below(stream)
    assert {"inference.queue", "inference.prefill", "inference.decode"} < parts.keys()
    engine = parts["llm_request"]
    assert engine.attributes["gen_ai.usage.completion_tokens"] == 4
    assert engine.attributes["gen_ai.request.id"].startswith(answers[0].headers["x-request-id"])
    assert engine.resource["service.name"] == "llm-service"
    streams = {span.span_id for span in receiver.named("inference.stream")}
    engines = [span for span in receiver.named("llm_request") if span.trace_id == TRACE_ID]
    assert {span.parent_id for span in engines} <= streams


def test_every_line_of_every_process_has_the_one_form(
    afresh: Server, answers: list[httpx.Response]
) -> None:
    events = [json.loads(line) for line in afresh.log.read_text().splitlines() if line[:1] == "{"]
    other = [line for line in afresh.log.read_text().splitlines() if line[:1] != "{"]
    assert [line for line in other if "INFO" in line or "DEBUG" in line] == []
    assert all({"event", "level", "logger", "timestamp"} <= event.keys() for event in events)
    loggers = {event["logger"].split(".")[0] for event in events}
    assert {"service", "uvicorn", "vllm"} <= loggers
    assert any(event.get("process", "").startswith("EngineCore") for event in events)
    told = [event for event in events if event["event"] == "request"]
    assert len(told) == len(answers)
    assert {event["trace_id"] for event in told} == {TRACE_ID}


def test_nothing_that_was_said_is_told_anywhere(
    afresh: Server, receiver: Receiver, answers: list[httpx.Response]
) -> None:
    metrics = httpx.get(f"{afresh.ops}/metrics", timeout=300)
    for place in (afresh.log.read_text(), metrics.text, b"".join(receiver.raw).decode("latin1")):
        assert CANARY not in place
    for refused in answers[6:]:
        assert refused.status_code == 400
        assert CANARY not in refused.text


def test_a_scrape_in_openmetrics_holds_vllms_series_and_our_exemplars(
    afresh: Server, answers: list[httpx.Response]
) -> None:
    accept = {"accept": "application/openmetrics-text; version=1.0.0"}
    text = httpx.get(f"{afresh.ops}/metrics", headers=accept, timeout=300).text
    assert f'trace_id="{TRACE_ID}"' in text
    for series in ("vllm:num_requests_running", "vllm:kv_cache_usage_perc"):
        assert f"\n{series}{{" in text


def test_the_engine_begins_no_trace_of_its_own(
    afresh: Server, receiver: Receiver, answers: list[httpx.Response]
) -> None:
    body = {"model": "traced", "prompt": "Hello", "max_tokens": 4}
    unsampled = {"traceparent": f"00-{TRACE_ID}-{CALLER}-00"}
    assert afresh.post("/v1/generate", body, headers=unsampled).status_code == 200
    time.sleep(5)  # an idle engine is given a probe every three seconds
    sent = len(receiver.named("llm_request"))
    assert afresh.post("/v1/generate", body).status_code == 200
    wait_until(lambda: len(receiver.named("llm_request")) > sent, 300, "a span of what came last")
    assert not [span for span in receiver.named("llm_request") if not span.parent_id]
