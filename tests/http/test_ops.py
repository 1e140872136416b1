"""The admin port through a service's life."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message

from loadtests.processes import PATIENCE_S
from service.http import connection, ops
from service.http.ops import create_ops_app
from service.runtime.status import Phase, Status
from service.settings.tree import HttpSettings
from tests.answers import error_of
from tests.live_service import LiveService


def probing(status: Status) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(create_ops_app(status, CollectorRegistry(), HttpSettings()))
    return httpx.AsyncClient(transport=transport, base_url="http://ops")


@pytest.mark.parametrize(
    ("phase", "live", "started", "ready"),
    [
        (Phase.STARTING, 200, 503, 503),
        (Phase.READY, 200, 200, 200),
        (Phase.STOPPING, 200, 200, 503),
    ],
)
async def test_probes_follow_the_phase(phase: Phase, live: int, started: int, ready: int) -> None:
    status = Status()
    status.phase = phase
    async with probing(status) as client:
        answers = [await client.get(path) for path in ("/livez", "/startupz", "/readyz")]
    assert [answer.status_code for answer in answers] == [live, started, ready]
    assert answers[1].text == phase.value


async def test_the_service_moves_from_ready_to_stopping() -> None:
    with LiveService() as live:
        async with httpx.AsyncClient(trust_env=False) as client:
            ready = await client.get(f"{live.ops_url}/readyz")
    assert (ready.status_code, ready.text) == (200, "ready")
    assert live.status.phase is Phase.STOPPING
    assert live.engine.dead


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("", "text/plain"),
        ("*/*", "text/plain"),
        ("application/openmetrics-text; version=1.0.0", "application/openmetrics-text"),
    ],
)
async def test_metrics_come_in_the_format_that_was_asked_for(accept: str, kind: str) -> None:
    async with probing(Status()) as client:
        response = await client.get("/metrics", headers={"Accept": accept})
    assert response.status_code == 200
    assert response.headers["content-type"].startswith(kind)


async def test_its_connections_are_bounded_in_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_HEAD_SECONDS", PATIENCE_S)
    with LiveService() as live:
        port = int(live.ops_url.rsplit(":", 1)[1])
        held = [await asyncio.open_connection("127.0.0.1", port) for _ in range(65)]
        async with asyncio.timeout(PATIENCE_S):
            assert await held[-1][0].readline() == b"HTTP/1.1 503 Service Unavailable\r\n"
        for _, writer in held:
            writer.close()


async def test_its_connections_are_bounded_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_HEAD_SECONDS", 0.1)
    with LiveService() as live:
        port = int(live.ops_url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
        writer.close()


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused_whoever_sends_it(chunked: bool) -> None:
    async def parts() -> AsyncIterator[bytes]:
        for _ in range(64):
            yield bytes(1 << 14)

    with LiveService() as live:
        async with httpx.AsyncClient(trust_env=False) as client:
            body = parts() if chunked else bytes(1 << 20)
            answer = await client.post(f"{live.ops_url}/releases/any", content=body)
    assert answer.status_code == 413
    assert error_of(answer.json())["message"].startswith("body: at most 16384 bytes, got ")


async def test_a_body_that_does_not_come_holds_no_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ops, "_BODY_MS", 200)
    with LiveService() as live:
        port = int(live.ops_url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /releases/a HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n{")
        async with asyncio.timeout(PATIENCE_S):
            assert await reader.readline() == b"HTTP/1.1 408 Request Timeout\r\n"
        writer.close()


async def test_a_drain_is_begun_for_a_client_that_has_gone() -> None:
    status, drained = Status(), list[bool]()
    status.drain = drained.append
    scope = {
        **{"type": "http", "method": "POST", "path": "/drain", "query_string": b""},
        **{"headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1)},
    }

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None: ...

    await create_ops_app(status, CollectorRegistry(), HttpSettings())(scope, receive, send)
    assert drained == [True]


async def test_the_public_port_serves_nothing_of_it(client: httpx.AsyncClient) -> None:
    for path in ("/metrics", "/livez", "/readyz", "/startupz"):
        assert (await client.get(path)).status_code == 404
