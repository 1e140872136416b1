"""Stopping without dropping what was accepted."""

import asyncio
from collections.abc import AsyncGenerator

import httpx
from starlette.responses import StreamingResponse

from loadtests.processes import eventually
from service.runtime.status import Phase
from service.settings.tree import DrainSettings
from tests.answers import error_of, events_of, refusal
from tests.live_service import LiveService

PARTS = 32
BODY = {"model": "fake", "prompt": "Tell me"}


def draining(**settings: float) -> LiveService:
    return LiveService(drain=DrainSettings(**settings))


async def post_drain(live: LiveService) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False) as client:
        return await client.post(f"{live.ops_url}/drain")


async def probe(live: LiveService) -> tuple[int, str]:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{live.ops_url}/readyz")
    return answer.status_code, answer.text


async def more_than_buffers_take() -> AsyncGenerator[bytes, None]:
    for _ in range(PARTS):
        yield b"x" * (1 << 20)


async def test_a_lame_duck_is_not_ready_and_serves_on() -> None:
    with draining(lame_duck_s=30) as live:
        async with live.client() as client:
            assert (await post_drain(live)).status_code == 202
            await eventually(lambda: live.status.phase is Phase.DRAINING)
            assert await probe(live) == (503, "draining")
            assert (await client.post("/v1/generate", json=BODY)).status_code == 200
            refusal(await client.get("/health"), 503)


async def test_accepted_requests_finish_and_new_ones_are_refused() -> None:
    with draining(lame_duck_s=0, budget_s=30) as live:
        live.engine.frozen = True
        async with live.client() as client, asyncio.TaskGroup() as group:
            whole = group.create_task(client.post("/v1/generate", json=BODY))
            streamed = group.create_task(client.post("/v1/generate", json=BODY | {"stream": True}))
            await eventually(lambda: live.engine.running == 2)
            await post_drain(live)
            await eventually(lambda: live.status.phase is Phase.DRAINING)
            await asyncio.sleep(0.05)
            new = await client.post("/v1/generate", json=BODY)
            await client.post("/made/up", json=BODY)
            await eventually(lambda: live.outcomes()["refused"] == 2)
            missed = {"objective": "availability", "route": "/v1/generate", "model": "none"}
            assert live.value("inference_slo_misses_total", **missed) == 1
            assert live.value("inference_slo_requests_total", model="none") == 1
            live.engine.frozen = False
        await eventually(lambda: live.status.phase is Phase.STOPPING)
    error = refusal(new, 503)
    assert (error["code"], new.headers["retry-after"]) == ("draining", "30")
    assert new.headers["connection"] == "close"
    assert whole.result().json()["outputs"][0]["finish_reason"] in ("stop", "length")
    assert streamed.result().text.endswith("data: [DONE]\n\n")


async def test_what_does_not_finish_in_time_ends_with_an_error_of_its_own() -> None:
    with draining(lame_duck_s=0, budget_s=0.1) as live:
        live.engine.frozen, live.engine.spared = True, 2
        async with live.client() as client, asyncio.TaskGroup() as group:
            streamed = group.create_task(client.post("/v1/generate", json=BODY | {"stream": True}))
            await eventually(lambda: live.engine.running == 1 and not live.engine.spared)
            whole = group.create_task(client.post("/v1/generate", json=BODY))
            await eventually(lambda: live.engine.running == 2)
            await post_drain(live)
        await eventually(lambda: live.status.phase is Phase.STOPPING)
    assert refusal(whole.result(), 503)["code"] == "draining"
    *_, last = events_of(streamed.result())
    assert error_of(last)["code"] == "draining"
    assert "[DONE]" not in streamed.result().text


async def test_a_client_that_does_not_read_keeps_only_its_connection_from_ending() -> None:
    with draining(lame_duck_s=0, budget_s=0.1) as live:

        @live.app.get("/flood")
        async def flood() -> StreamingResponse:
            return StreamingResponse(more_than_buffers_take())

        reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"\r\n\r\n")
        await post_drain(live)
        await eventually(lambda: live.stopping, seconds=4)
        assert live.connections
        async with asyncio.timeout(30):
            assert (await reader.read()).count(b"x") == PARTS << 20
        writer.close()


async def test_draining_twice_drains_once() -> None:
    with draining(lame_duck_s=30) as live:
        assert [(await post_drain(live)).status_code for _ in range(2)] == [202, 202]
