"""Deadlines by header and by body, over waiting and running, and the full queue."""

import asyncio
from typing import Any

import httpx
import pytest

from loadtests.processes import PATIENCE_S, eventually
from service.http import lifecycle as watch
from service.settings.admission import AdmissionSettings
from tests.answers import error_of, events_of, refusal
from tests.live_service import LiveService

REACHED_MS = 1000
"""A deadline before which a request reaches admission and the engine, on a slow machine too."""

ROUTES: dict[str, dict[str, Any]] = {
    "/v1/generate": {"model": "fake", "prompt": "Tell me"},
    "/v1/classify": {
        "model": "fake",
        "input": "x",
        "candidate_labels": ["a", "b"],
        "calibrate": False,
    },
}


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("by_header", [True, False])
@pytest.mark.parametrize("waiting", [True, False])
async def test_a_request_whose_deadline_passes_is_refused_and_leaves_nothing(
    path: str, by_header: bool, waiting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # After a stall both are due: what admission says of the deadline, and what is said without it.
    monkeypatch.setattr(watch, "_UNANSWERED_SECONDS", PATIENCE_S)
    body = ROUTES[path] | ({} if by_header else {"timeout_ms": REACHED_MS})
    headers = {"X-Request-Timeout-Ms": f"{REACHED_MS}"} if by_header else {}
    with LiveService(admission=AdmissionSettings(max_in_flight=1)) as live:
        live.engine.frozen = True
        async with live.client() as client, asyncio.TaskGroup() as group:
            if waiting:
                group.create_task(client.post("/v1/generate", json=ROUTES["/v1/generate"]))
                await eventually(lambda: live.engine.running == 1)
            response = await client.post(path, json=body, headers=headers)
            assert live.engine.running == waiting
            live.engine.frozen = False
        await eventually(live.idle)
        labels = {"route": path, "model": "fake", "outcome": "deadline"}
        await eventually(lambda: live.value("inference_requests_total", **labels) == 1)
    error = refusal(response, 504)
    assert error["code"] == "deadline_exceeded"
    assert ("for its turn" in error["message"]) == waiting


async def test_a_deadline_in_mid_stream_is_an_event_and_not_done() -> None:
    with LiveService() as live:
        live.engine.frozen, live.engine.spared = True, 2
        async with live.client() as client:
            body = ROUTES["/v1/generate"] | {"stream": True, "timeout_ms": REACHED_MS}
            response = await client.post("/v1/generate", json=body)
        assert live.idle()
        await eventually(lambda: live.outcomes()["deadline"] == 1)
    *deltas, last = events_of(response)
    assert len(deltas) == 2
    assert error_of(last)["code"] == "deadline_exceeded"


async def test_a_deadline_that_passes_outside_of_admission_is_refused_too() -> None:
    with LiveService() as live:

        @live.app.get("/slow")
        async def slow() -> None:
            await asyncio.sleep(30)

        async with live.client() as client:
            response = await client.get("/slow", headers={"X-Request-Timeout-Ms": "50"})
        error = refusal(response, 504)
        assert error["code"] == "deadline_exceeded"
        assert "its answer had not begun" in error["message"]
        await eventually(lambda: live.outcomes()["deadline"] == 1)


async def test_the_default_deadline_applies_when_none_is_asked_for() -> None:
    with LiveService(admission=AdmissionSettings(default_timeout_ms=50)) as live:
        live.engine.frozen = True
        async with live.client() as client:
            refusal(await client.post("/v1/generate", json=ROUTES["/v1/generate"]), 504)


async def test_a_client_cannot_ask_for_more_than_the_longest_deadline() -> None:
    with LiveService(admission=AdmissionSettings(max_timeout_ms=50)) as live:
        live.engine.frozen = True
        async with live.client() as client:
            for headers in ({"X-Request-Timeout-Ms": "600000"}, {}):
                body = ROUTES["/v1/generate"] | ({} if headers else {"timeout_ms": 10**400})
                refusal(await client.post("/v1/generate", json=body, headers=headers), 504)


@pytest.mark.parametrize("value", ["0", "-1", "1.5", "1e3", "soon", "", "²", "9" * 16, "9" * 5000])
async def test_a_header_that_is_no_number_of_milliseconds_is_refused(
    client: httpx.AsyncClient, service: LiveService, value: str
) -> None:
    before = service.engine.starts
    headers = [(b"X-Request-Timeout-Ms", value.encode("latin-1"))]
    response = await client.post("/v1/generate", json=ROUTES["/v1/generate"], headers=headers)
    error = refusal(response, 400)
    assert error["param"] == "X-Request-Timeout-Ms"
    assert "must be a positive number of milliseconds, got" in error["message"]
    assert service.engine.starts == before


@pytest.mark.parametrize("path", ROUTES)
@pytest.mark.parametrize("stream", [True, False])
async def test_a_full_queue_refuses_with_a_time_to_come_back(path: str, stream: bool) -> None:
    with LiveService(admission=AdmissionSettings(max_in_flight=1, max_queued=1)) as live:
        live.engine.frozen = True
        async with live.client() as client, asyncio.TaskGroup() as group:
            asking = [client.post("/v1/generate", json=ROUTES["/v1/generate"]) for _ in range(2)]
            others = [group.create_task(request) for request in asking]
            await eventually(lambda: live.admission.in_flight == live.admission.queued == 1)
            body = ROUTES[path] | ({"stream": stream} if path == "/v1/generate" else {})
            response = await client.post(path, json=body)
            live.engine.frozen = False
        assert [answer.result().status_code for answer in others] == [200, 200]
        waited = sorted(answer.result().json()["timing"]["queue_ms"] for answer in others)
        assert waited[0] == 0 < waited[1]
        await eventually(live.idle)
    error = refusal(response, 503)
    assert error["code"] == "queue_full"
    assert "limit is 1" in error["message"]
    assert response.headers["retry-after"] == "1"


READ_TIMEOUT = "x-stainless-read-timeout"


@pytest.mark.parametrize("header", [READ_TIMEOUT, "x-stainless-timeout"])
async def test_the_timeout_that_an_sdk_states_is_the_deadline_of_a_whole_answer(
    header: str,
) -> None:
    with LiveService() as live:
        live.engine.frozen = True
        async with live.client() as client:
            body = ROUTES["/v1/generate"]
            response = await client.post("/v1/generate", json=body, headers={header: "0.05"})
    assert refusal(response, 504)["code"] == "deadline_exceeded"
    assert response.headers["x-should-retry"] == "false"


async def test_it_ends_no_stream_whose_parts_it_is_about() -> None:
    with LiveService(token_seconds=0.02) as live:
        async with live.client() as client:
            body = ROUTES["/v1/generate"] | {"stream": True, "max_tokens": 12}
            response = await client.post("/v1/generate", json=body, headers={READ_TIMEOUT: "0.05"})
    assert response.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("given", ["0", "-1", "None", "1e9", "", "600; 5", "0.0001"])
async def test_what_is_no_time_of_an_sdk_is_passed_over(service: LiveService, given: str) -> None:
    async with service.client() as client:
        body = ROUTES["/v1/generate"]
        response = await client.post("/v1/generate", json=body, headers={READ_TIMEOUT: given})
    assert response.status_code == 200


@pytest.mark.parametrize("by_header", [True, False])
async def test_what_the_request_itself_states_goes_before_it(by_header: bool) -> None:
    with LiveService() as live:
        live.engine.frozen = True
        async with live.client() as client:
            body = ROUTES["/v1/generate"] | ({} if by_header else {"timeout_ms": 50})
            headers = {READ_TIMEOUT: "600"} | ({"X-Request-Timeout-Ms": "50"} if by_header else {})
            response = await client.post("/v1/generate", json=body, headers=headers)
    assert response.status_code == 504
