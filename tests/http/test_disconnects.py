"""Clients that disconnect: their requests are stopped, also while they wait."""

import asyncio
import random
import threading
from contextlib import suppress
from typing import Any

import httpx
import pytest

from loadtests.processes import eventually
from service.errors import InvalidRequest
from service.settings.admission import AdmissionSettings
from tests.http.raw_http import visit
from tests.live_service import LiveService

CLIENTS = 200

BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "streamed": ("/v1/generate", {"model": "fake", "prompt": "Tell me", "stream": True}),
    "unary": ("/v1/generate", {"model": "fake", "prompt": "Tell me"}),
    "classify": (
        "/v1/classify",
        {"model": "fake", "input": ["x", "y"], "candidate_labels": ["a", "b"]},
    ),
}


async def leave_when(client: httpx.AsyncClient, kind: str, gone: asyncio.Event) -> None:
    """Send a request and drop its connection when the event is set."""
    path, body = BODIES[kind]
    asking = asyncio.create_task(client.post(path, json=body))
    await gone.wait()
    asking.cancel()
    with suppress(asyncio.CancelledError):
        await asking


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("waiting", [False, True])
async def test_what_a_client_left_is_stopped(kind: str, waiting: bool) -> None:
    with LiveService(admission=AdmissionSettings(max_in_flight=2)) as live:
        live.engine.frozen = True
        give_back = live.hold_every_slot() if waiting else None
        gone = asyncio.Event()
        async with live.client() as client, asyncio.TaskGroup() as group:
            group.create_task(leave_when(client, kind, gone))
            if waiting:
                await eventually(lambda: live.admission.queued > 0)
            else:
                await eventually(lambda: live.engine.running > 0)
            gone.set()
        if give_back:
            await eventually(lambda: live.admission.queued == 0)
            give_back()
        await eventually(live.idle)
        path = BODIES[kind][0]
        labels = {"route": path, "model": "fake", "outcome": "cancelled"}
        await eventually(lambda: live.value("inference_requests_total", **labels) == 1)


async def test_a_route_that_answers_to_being_cancelled_answers_nobody() -> None:
    begun = threading.Event()
    with LiveService() as live:

        @live.app.get("/stubborn")
        async def stubborn() -> None:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                raise InvalidRequest("Client disconnected") from None

        async with live.client() as client:
            asking = asyncio.create_task(client.get("/stubborn"))
            await eventually(begun.is_set)
            asking.cancel()
            await asyncio.wait([asking])
        await eventually(lambda: live.outcomes()["cancelled"] == 1)


async def test_two_hundred_clients_that_leave_at_random_moments_leave_nothing() -> None:
    chance = random.Random(2)
    admission = AdmissionSettings(max_in_flight=8, max_queued=150)
    with LiveService(token_seconds=0.002, admission=admission) as live:

        async def come_and_go() -> None:
            path, body = BODIES[chance.choice(list(BODIES))]
            await visit(live, path, body, stays=chance.uniform(0.0, 0.8))

        # On a machine that stalls, all clients may have left before they were connected.
        while live.outcomes()["cancelled"] < 50:
            await asyncio.gather(*(come_and_go() for _ in range(CLIENTS)))
        await eventually(live.idle)
        async with live.client() as client:
            after = await client.post("/v1/generate", json=BODIES["unary"][1])
        assert after.status_code == 200
        assert live.outcomes()["error"] == 0


async def test_a_client_that_leaves_while_it_sends_its_body_is_cancelled() -> None:
    with LiveService() as live:
        _, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(b"POST /v1/generate HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
        await writer.drain()
        await eventually(lambda: any(each.cycle is not None for each in live.connections))
        writer.close()
        await writer.wait_closed()
        await eventually(lambda: live.outcomes()["cancelled"] == 1)
        assert live.engine.starts == 0
