"""Clients of HTTP/1.0, such as `ab` and old proxies: no chunks, and connections kept if asked."""

import asyncio
import json
from typing import Any

import pytest

from loadtests.processes import PATIENCE_S
from tests.live_service import LiveService

STREAMED: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"prompt": "Hi"},
    "/v1/generate": {"prompt": "Hi"},
}


def post(path: str, body: object, *lines: str) -> bytes:
    content = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.0", "Host: a", "Content-Type: application/json", *lines]
    return "\r\n".join([*head, f"Content-Length: {len(content)}", "", ""]).encode() + content


async def told(live: LiveService, sent: bytes) -> tuple[str, bytes]:
    """The head and the body of the last answer, read until the connection closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(sent)
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.read()
    writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    return head.decode().lower(), body


@pytest.mark.parametrize("path", STREAMED)
async def test_a_stream_is_no_chunks_and_ends_with_its_connection(
    service: LiveService, path: str
) -> None:
    body = {"model": "fake", "stream": True, "max_tokens": 4} | STREAMED[path]
    head, events = await told(service, post(path, body, "Connection: keep-alive"))
    assert "transfer-encoding" not in head
    assert "connection: close" in head
    assert events.startswith((b"data: ", b"event: "))
    assert events.endswith(b"data: [DONE]\n\n") or path == "/v1/generate"
    for event in filter(None, events.split(b"\n\n")):
        assert event.startswith((b"data: ", b"event: ")), event


async def test_a_connection_is_kept_for_who_asks(service: LiveService) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    for _ in range(3):
        writer.write(b"GET /livez HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            assert "connection: keep-alive" in head
            (length,) = [
                int(line.partition(":")[2])
                for line in head.splitlines()
                if line.startswith("content-length:")
            ]
            await reader.readexactly(length)
    writer.close()


async def test_a_connection_is_closed_for_others(service: LiveService) -> None:
    head, _ = await told(service, b"GET /livez HTTP/1.0\r\n\r\n")
    assert "connection: close" in head
