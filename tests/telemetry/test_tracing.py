"""Traces, as a receiver gets them over gRPC."""

import socket
import subprocess
import sys

import httpx
import pytest

from loadtests.processes import eventually
from service.settings.admission import AdmissionSettings
from service.settings.telemetry import TracingSettings
from tests.live_service import LiveService
from tests.telemetry.receiver import ReceivedSpan, Receiver, otlp_receiver

PROMPT = {"model": "fake", "prompt": "canary-prompt", "temperature": 0.0}
TRACE_ID, CALLER = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{CALLER}-01"}
SERVER = 2


async def traced(
    path: str, body: object, headers: dict[str, str] | None = None, **settings: float
) -> tuple[Receiver, httpx.Response]:
    """Spans that one request sends to a receiver, and its answer."""
    with otlp_receiver() as receiver:
        tracing = TracingSettings(endpoint=receiver.endpoint, **settings)
        with LiveService(tracing=tracing) as live:
            async with live.client() as client:
                answer = await client.post(path, json=body, headers=headers)
        return receiver, answer


def of_route(receiver: Receiver, route: str) -> ReceivedSpan:
    (span,) = receiver.named(f"POST {route}")
    return span


async def test_a_request_is_one_trace_with_its_wait_prefill_and_decode() -> None:
    receiver, answer = await traced("/v1/generate", PROMPT)
    request = of_route(receiver, "/v1/generate")
    assert request.parent_id == ""
    assert request.kind == SERVER
    assert request.resource["service.name"] == "llm-service"
    assert {span.trace_id for span in receiver.spans} == {request.trace_id}
    stream = receiver.below(request)["inference.stream"]
    parts = receiver.below(stream)
    assert parts.keys() == {"inference.queue", "inference.prefill", "inference.decode"}
    queue, prefill, decode = (parts[f"inference.{p}"] for p in ("queue", "prefill", "decode"))
    assert request.start <= stream.start == queue.start <= queue.end == prefill.start
    assert prefill.end == decode.start <= decode.end == stream.end <= request.end
    assert not request.failed
    assert answer.headers["traceresponse"].startswith(f"00-{request.trace_id}-{request.span_id}-")


async def test_attributes_follow_the_conventions_for_generative_ai() -> None:
    receiver, answer = await traced("/v1/generate", PROMPT)
    usage = answer.json()["usage"]
    attributes = of_route(receiver, "/v1/generate").attributes
    assert attributes.pop("gen_ai.response.time_to_first_chunk") > 0
    assert attributes == {
        "http.request.method": "POST",
        "http.route": "/v1/generate",
        "http.response.status_code": 200,
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "vllm",
        "gen_ai.request.model": "fake",
        "gen_ai.response.model": "fake",
        "gen_ai.response.id": answer.json()["id"],
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "inference.request.id": answer.json()["id"],
        "inference.tenant": "anonymous",
        "inference.outcome": "ok",
        "inference.streams": 1,
    }


async def test_a_callers_trace_is_joined() -> None:
    receiver, answer = await traced("/v1/generate", PROMPT, SAMPLED, sample_ratio=0.0)
    request = of_route(receiver, "/v1/generate")
    assert (request.trace_id, request.parent_id) == (TRACE_ID, CALLER)
    assert answer.headers["traceresponse"].startswith(f"00-{TRACE_ID}-")


@pytest.mark.parametrize("flags", ["00", None])
async def test_what_is_not_sampled_sends_nothing(flags: str | None) -> None:
    headers = {"traceparent": f"00-{TRACE_ID}-{CALLER}-{flags}"} if flags else None
    receiver, answer = await traced("/v1/generate", PROMPT, headers, sample_ratio=0.0)
    assert answer.status_code == 200
    assert receiver.spans == []
    assert "traceresponse" not in answer.headers


async def test_a_batch_has_spans_for_its_first_streams_only() -> None:
    body = {
        "model": "fake",
        "input": [f"text {number}" for number in range(40)],
        "candidate_labels": ["a", "b"],
        "calibrate": False,
    }
    receiver, _ = await traced("/v1/classify", body)
    request = of_route(receiver, "/v1/classify")
    assert request.attributes["gen_ai.operation.name"] == "classify"
    assert request.attributes["inference.streams"] == 40
    assert len(receiver.named("inference.stream")) == 32


async def test_failures_are_marked_and_say_no_message() -> None:
    with otlp_receiver() as receiver:
        tracing = TracingSettings(endpoint=receiver.endpoint)
        with LiveService(tracing=tracing, admission=AdmissionSettings(max_queued=0)) as live:
            give_back = live.hold_every_slot()
            async with live.client() as client:
                await client.post("/v1/generate", json=PROMPT)
                give_back()
                live.engine.failure = RuntimeError("canary-prompt")
                await client.post("/v1/generate", json=PROMPT)
                await client.post("/v1/generate", json=PROMPT | {"n": 99})
    full, broken, invalid = receiver.named("POST /v1/generate")
    assert (full.failed, full.attributes["error.type"]) == (True, "queue_full")
    assert (broken.failed, broken.attributes["error.type"]) == (True, "internal")
    assert (invalid.failed, invalid.attributes["error.type"]) == (False, "invalid_value")
    assert "inference.stream" not in receiver.below(full)  # its prompt was not even read
    assert b"canary-prompt" not in b"".join(receiver.raw)


async def test_a_receiver_that_is_away_costs_no_request_and_no_end() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with LiveService(tracing=TracingSettings(endpoint=endpoint)) as live:
        async with live.client() as client:
            assert (await client.post("/v1/generate", json=PROMPT)).status_code == 200
        await eventually(live.idle)
    assert live.engine.dead


def test_nothing_of_it_is_imported_where_nothing_is_traced() -> None:
    code = "import sys, service.app; print(any(m.startswith('opentelemetry') for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
