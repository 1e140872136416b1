"""A real socket server that answers by script and logs when it really sent each piece.

The instants are CLOCK_MONOTONIC, which every process of a machine shares.
"""

import asyncio
import json
import socket
import struct
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

from loadtests.processes import PATIENCE_S

HEADERS = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


@dataclass
class Served:
    """One request as the server saw it: the body, when it had arrived, and each piece's instant."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    arrived: float
    sent: list[float] = field(default_factory=list)
    ended: float = 0.0


class Connection:
    """Connection that a script writes to."""

    def __init__(self, writer: asyncio.StreamWriter, served: Served) -> None:
        self._writer = writer
        self.served = served

    async def start(self) -> None:
        await self.raw(HEADERS)

    async def piece(self, data: bytes, *, log: bool = False) -> None:
        """One HTTP chunk in one packet; `log` notes its instant as a token's."""
        if log:
            self.served.sent.append(perf_counter())
        await self.raw(b"%x\r\n%s\r\n" % (len(data), data))

    async def end(self) -> None:
        self.served.ended = perf_counter()
        await self.raw(b"0\r\n\r\n")

    async def raw(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def plain(self, status: int, body: dict[str, Any], *headers: str) -> None:
        data = json.dumps(body).encode()
        lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(data)}", *headers]
        await self.raw("\r\n".join(lines).encode() + b"\r\n\r\n" + data)
        self.served.ended = perf_counter()

    def close(self, *, reset: bool = False) -> None:
        if reset:
            sock = self._writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort() if reset else self._writer.close()


Script = Callable[[Connection], Awaitable[None]]


class ScriptedServer(AbstractContextManager["ScriptedServer"]):
    """Serves on a free port of the loopback; the request's `model` names its script."""

    def __init__(self, scripts: dict[str, Script]) -> None:
        self.served: list[Served] = []
        self._scripts = scripts
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        started = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
        self._server = started.result(PATIENCE_S)
        port = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PATIENCE_S)
        self._loop.close()

    def by_id(self) -> dict[str, Served]:
        """The requests of a load, which carry an id; others (metrics) do not."""
        name = "x-request-id"
        return {one.headers[name]: one for one in self.served if name in one.headers}

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._connected, "127.0.0.1", 0, backlog=1024)

    async def _stop(self) -> None:
        self._server.close()
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            async for served in _requests(reader):
                self.served.append(served)
                await self._scripts[served.body.get("model", "")](Connection(writer, served))
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()


async def _requests(reader: asyncio.StreamReader) -> AsyncIterator[Served]:
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {
            name.lower(): value.strip()
            for name, _, value in (line.partition(":") for line in lines)
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        tree = json.loads(body) if body else {}
        yield Served(first.split(" ")[1], headers, tree, perf_counter())


def event(**fields: Any) -> bytes:
    """A native event of the stream."""
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def token(text: str = "w ", finish_reason: str | None = None) -> bytes:
    return event(id="r", index=0, text=text, finish_reason=finish_reason)


def closing(prompt: int, completion: int) -> bytes:
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "cached_tokens": 0}
    return event(id="r", usage=usage, timing={"queue_ms": 1.5, "ttft_ms": 2.0, "total_ms": 3.0})


DONE = b"data: [DONE]\n\n"


def steady(first_s: float, gap_s: float, tokens: int) -> Script:
    """A stream whose tokens come at known times from the request's arrival."""

    async def script(connection: Connection) -> None:
        await connection.start()
        for position in range(tokens):
            due = connection.served.arrived + first_s + position * gap_s
            await asyncio.sleep(max(0.0, due - perf_counter()))
            await connection.piece(token(), log=True)
        await connection.piece(closing(10, tokens))
        await connection.piece(DONE)
        await connection.end()

    return script
