"""Connections that never become a request, are too many, or never read their answer."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from starlette.responses import StreamingResponse

from service.api import connection, middleware
from service.settings import GateSettings, HttpSettings
from tests.live_service import LiveService, eventually

HEAD = b"POST /v1/generate HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
BODY = b'{"model": "fake", "prompt": "Tell me", "stream": true, "timeout_ms": 300}'


async def ask(live: LiveService, sent: bytes) -> tuple[bytes, dict[str, Any]]:
    """Send bytes; the status line and the error that come back before the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(sent)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    error = json.loads(body)["error"]
    assert f"x-request-id: {error['request_id']}".encode() in head.lower()
    return head.split(b"\r\n")[0], error


async def test_a_head_that_never_ends_is_refused(service: LiveService) -> None:
    flood = b"x-flood: " + b"x" * (connection.MAX_HEAD_BYTES + 1)
    status, error = await ask(service, HEAD + flood)
    assert status.startswith(b"HTTP/1.1 431")
    assert error["code"] == "headers_too_large"


async def test_a_head_that_is_complete_and_too_large_is_refused(service: LiveService) -> None:
    many = b"".join(b"x-%d: %s\r\n" % (n, b"x" * 900) for n in range(80))
    status, error = await ask(service, HEAD + many + b"Content-Length: 0\r\n\r\n")
    assert status.startswith(b"HTTP/1.1 431")
    assert "at most 65536 bytes, got 7" in error["message"]


@pytest.mark.parametrize("sent", [b"", b"POST /v1/gen", HEAD])
async def test_a_head_that_is_late_is_refused(sent: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "_HEAD_SECONDS", 0.1)
    with LiveService() as live:
        status, error = await ask(live, sent)
    assert status.startswith(b"HTTP/1.1 408")
    assert error["code"] == "request_timeout"


async def test_one_connection_too_many_is_refused_and_the_others_are_served() -> None:
    with LiveService(http=HttpSettings(max_connections=2)) as live:
        held = [await asyncio.open_connection("127.0.0.1", live.port) for _ in range(2)]
        await asyncio.sleep(0.05)
        status, error = await ask(live, b"")
        assert status.startswith(b"HTTP/1.1 503")
        assert error["code"] == "too_many_connections"
        reader, writer = held[0]
        writer.write(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
        async with asyncio.timeout(5):
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        for _, writer in held:
            writer.close()
        refused = {"reason": "too_many_connections", "tenant": "anonymous"}
        assert live.value("inference_refusals_total", **refused) == 1


async def test_a_client_that_takes_nothing_is_gone_long_before_its_deadline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(middleware, "_BLOCKED_SECONDS", 0.2)
    monkeypatch.setattr(middleware, "_LOOK_AGAIN_SECONDS", 0.1)
    with LiveService() as live:

        @live.app.get("/flood")
        async def flood() -> StreamingResponse:
            return StreamingResponse(more_than_buffers_take())

        _, writer = await asyncio.open_connection("127.0.0.1", live.port, limit=1)
        writer.write(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
        await eventually(lambda: live.outcomes()["cancelled"] == 1)
        writer.close()


async def more_than_buffers_take() -> AsyncGenerator[bytes, None]:
    for _ in range(64):
        yield b"x" * (1 << 20)


async def test_a_client_that_never_reads_its_answer_gives_its_slot_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(middleware, "_UNREAD_SECONDS", 0.2)
    monkeypatch.setattr("service.api.sse._send_part", _never_sent)
    with LiveService(gate=GateSettings(max_in_flight=1)) as live:
        _, writer = await asyncio.open_connection("127.0.0.1", live.port)
        writer.write(HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY)
        await eventually(lambda: live.gate.in_flight == 1)
        await eventually(live.idle)
        writer.close()
        await eventually(lambda: live.outcomes()["cancelled"] == 1)


async def _never_sent(send: object, part: bytes) -> None:
    """What sending does when the other side's window stays shut."""
    await asyncio.Event().wait()
