"""A small HTTP server whose answers a test writes, byte by byte: vLLM's own server, but faulty."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

Answer = Callable[["Asked"], Awaitable[None]]


@dataclass
class Asked:
    """One request, and the connection on which it is answered."""

    path: str
    headers: Mapping[str, str]
    body: Any
    writer: asyncio.StreamWriter
    reader: asyncio.StreamReader

    async def answer(self, status: int, body: bytes | Mapping[str, Any], *headers: str) -> None:
        """A whole answer."""
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "text/html" if isinstance(body, bytes) else "application/json"
        head = [f"HTTP/1.1 {status} -", f"content-type: {kind}", *headers]
        await self.send("\r\n".join([*head, f"content-length: {len(text)}", "", ""]).encode())
        await self.send(text)

    async def stream(self, *events: Mapping[str, Any] | bytes, end: bool = True) -> None:
        """The events of a stream; without `end` it goes on."""
        await self.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
        )
        for event in (*events, *((b"[DONE]",) if end else ())):
            data = event if isinstance(event, bytes) else json.dumps(event).encode()
            await self.send(b"data: " + data + b"\n\n")

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def hung_up(self) -> None:
        """Wait until the client has closed the connection."""
        while await self.reader.read(1024):
            pass


@dataclass
class Faulty:
    """The running server: its address, its answer by path, and what it was asked."""

    url: str = ""
    answers: dict[str, Answer] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)

    @property
    def paths(self) -> Sequence[str]:
        return [each.path for each in self.asked]


@asynccontextmanager
async def faulty_server() -> AsyncIterator[Faulty]:
    """A server that closes each connection after an answer unless the answer says otherwise."""
    faulty = Faulty()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.split("\r\n")
            headers = {k.lower(): v.strip() for k, _, v in (each.partition(":") for each in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            path = first.split()[1]
            asked = Asked(path, headers, json.loads(body) if body else None, writer, reader)
            faulty.asked.append(asked)
            await faulty.answers[path](asked)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        faulty.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield faulty
