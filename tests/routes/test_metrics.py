"""Series after known requests."""

import asyncio

import httpx

from loadtests.processes import eventually
from service.settings.admission import AdmissionSettings
from tests.live_service import LiveService

PROMPT = {"model": "fake", "prompt": "Tell me", "temperature": 0.0}
CLASSIFY = {"model": "fake", "input": ["a", "b"], "candidate_labels": ["x", "y"]}


async def test_requests_are_counted_once_by_route_model_and_outcome() -> None:
    expected = {
        ("/v1/generate", "fake", "ok"): 2,
        ("/v1/generate", "none", "invalid"): 2,
        ("/v1/generate", "fake", "invalid"): 1,
        ("/v1/classify", "fake", "ok"): 1,
        ("/health", "none", "ok"): 1,
        ("unmatched", "none", "invalid"): 1,
    }
    with LiveService() as live:
        async with live.client() as client:
            await client.post("/v1/generate", json=PROMPT)
            await client.post("/v1/generate", json=PROMPT | {"stream": True})
            await client.post("/v1/generate", json=PROMPT | {"model": "made up"})
            await client.post("/v1/generate", json={})
            await client.post("/v1/generate", json=PROMPT | {"n": 17})
            await client.post("/v1/classify", json=CLASSIFY | {"calibrate": False})
            await client.get("/health")
            await client.get("/made/up")
        counted = {}
        await eventually(lambda: sum(live.outcomes().values()) == sum(expected.values()))
        for route, model, outcome in expected:
            labels = {"route": route, "model": model, "outcome": outcome}
            counted[route, model, outcome] = live.value("inference_requests_total", **labels)
        assert counted == expected
        duration = {"route": "/v1/generate", "model": "fake"}
        assert live.value("inference_request_duration_seconds_count", **duration) == 3


async def test_tokens_and_latencies_follow_the_answers() -> None:
    with LiveService() as live:
        async with live.client() as client:
            whole = (
                await client.post("/v1/generate", json=PROMPT | {"n": 2, "temperature": 1.0})
            ).json()
            await client.post("/v1/classify", json=CLASSIFY | {"calibrate": False})
        usage = whole["usage"]
        completion = usage["completion_tokens"]
        tokens = {
            kind: live.value("inference_tokens_total", model="fake", kind=kind)
            for kind in ("prompt", "cached", "completion")
        }
        assert tokens["completion"] == completion + 2
        assert tokens["prompt"] > usage["prompt_tokens"]
        assert tokens["cached"] == 0
        series = "inference_{}_seconds_count"
        first = live.value(series.format("time_to_first_token"), model="fake")
        between = live.value(series.format("inter_token_latency"), model="fake")
        queued = live.value(series.format("queue_time"), model="fake")
        assert (first, between, queued) == (2, completion - 2, 3)


async def test_gauges_follow_admission() -> None:
    with LiveService(admission=AdmissionSettings(max_in_flight=3)) as live:
        live.engine.frozen = True
        async with live.client() as client, asyncio.TaskGroup() as group:
            group.create_task(
                client.post("/v1/generate", json=PROMPT | {"n": 3, "temperature": 1.0})
            )
            await eventually(lambda: live.value("inference_requests_in_flight") == 3)
            group.create_task(client.post("/v1/generate", json=PROMPT))
            await eventually(lambda: live.value("inference_requests_queued") == 1)
            live.engine.frozen = False
        await eventually(live.idle)


async def test_the_scrape_shows_what_the_registry_holds(service: LiveService) -> None:
    async with service.client() as client, httpx.AsyncClient(trust_env=False) as ops:
        await client.post("/v1/generate", json=PROMPT)
        text = (await ops.get(f"{service.ops_url}/metrics")).text
    for series in (
        'inference_requests_total{model="fake",outcome="ok",route="/v1/generate",'
        'service_tier="default",tenant="anonymous"} 1.0',
        'inference_time_to_first_token_seconds_bucket{le="0.005",model="fake",'
        'route="/v1/generate",service_tier="default",tenant="anonymous"}',
        "inference_inter_token_latency_seconds_sum",
        "inference_request_duration_seconds_bucket",
        "inference_queue_time_seconds_bucket",
        'inference_requests_in_flight{engine="fake"} 0.0',
        'inference_tokens_total{kind="completion",model="fake",route="/v1/generate",'
        'service_tier="default",tenant="anonymous"}',
        'inference_build_info{digest="sha256:fake",model="fake",version="',
    ):
        assert series in text
