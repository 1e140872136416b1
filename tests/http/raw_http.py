"""Bytes sent over a socket in segments that the test chooses, and the answers to them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from loadtests.processes import PATIENCE_S
from tests.live_service import MODEL, LiveService


@dataclass(frozen=True)
class Answer:
    """One response: its status, its request id and its body."""

    status: int
    request_id: str
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def question(name: str, prompt: str, *lines: str, chunks: int = 0) -> bytes:
    """A tokenize request with this id, whose answer shows which body was read.

    `chunks` above 0 sends the body in so many chunks; `lines` are further header lines.
    """
    body = json.dumps({"model": MODEL, "prompt": prompt}).encode()
    head = ["POST /v1/tokenize HTTP/1.1", "Host: a", f"X-Request-Id: {name}", *lines]
    head += ["Content-Type: application/json"]
    if not chunks:
        head += [f"Content-Length: {len(body)}"]
    else:
        head += ["Transfer-Encoding: chunked"]
        size = -(-len(body) // chunks)
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    return "\r\n".join([*head, "", ""]).encode() + body


async def exchange(live: LiveService, segments: Sequence[bytes]) -> list[Answer]:
    """The answers to what is sent segment by segment; the last request must close."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    try:
        for segment in segments:
            writer.write(segment)
            await writer.drain()
            await asyncio.sleep(0.002)  # else the system joins them
        async with asyncio.timeout(PATIENCE_S):
            return answers(await reader.read())
    finally:
        writer.close()


async def visit(
    live: LiveService,
    path: str,
    body: dict[str, Any],
    headers: Mapping[str, str] | None = None,
    *,
    stays: float,
) -> None:
    """Send a request, and leave after so many seconds or with the answer.

    HTTPX would leave its socket to the garbage collector where it is cancelled while it connects.
    """
    content = json.dumps(body).encode()
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Content-Type: application/json"]
    lines += [f"Content-Length: {len(content)}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write("\r\n".join([*lines, "", ""]).encode() + content)
    with suppress(TimeoutError, ConnectionError):
        async with asyncio.timeout(stays):
            await reader.read()
    writer.close()


def answers(received: bytes) -> list[Answer]:
    """The responses in these bytes; fails if any bytes are left."""
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        assert status.startswith("HTTP/1.1 "), received
        size = int(headers["content-length"])
        found.append(Answer(int(status.split()[1]), headers["x-request-id"], received[:size]))
        received = received[size:]
    return found
