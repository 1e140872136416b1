"""GET /health over a running service and before one runs."""

from importlib.metadata import version

import httpx
from prometheus_client import CollectorRegistry

from service.app import create_app
from service.runtime.status import Status
from tests.answers import refusal
from tests.live_service import LiveService


async def test_a_ready_service_is_healthy(client: httpx.AsyncClient) -> None:
    response = await client.get("/health")
    assert (response.status_code, response.json()) == (200, {"status": "ok"})


async def test_sagemakers_ping_is_the_same(client: httpx.AsyncClient) -> None:
    assert (await client.get("/ping")).json() == (await client.get("/health")).json()


async def test_the_version_is_told(client: httpx.AsyncClient) -> None:
    told = (await client.get("/version")).json()
    assert told == {"version": version("llm-service")}


async def test_a_service_whose_engine_died_is_not() -> None:
    with LiveService() as live:
        live.engine.dead = True
        async with live.client() as client:
            response = await client.get("/health")
    error = refusal(response, 503)
    assert (error["code"], response.headers["retry-after"]) == ("engine_dead", "5")


async def test_before_the_engine_is_up_every_route_answers_not_ready(
    service: LiveService,
) -> None:
    app = create_app(service.settings, Status(), CollectorRegistry(), service.start_engine)
    transport = httpx.ASGITransport(app)  # runs no lifespan
    async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
        health = await client.get("/health")
        generate = await client.post("/v1/generate", json={"model": "fake", "prompt": "Hi"})
    for response in (health, generate):
        assert refusal(response, 503)["code"] == "not_ready"
        assert int(response.headers["retry-after"]) > 0
