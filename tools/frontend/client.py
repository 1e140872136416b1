"""A load client that costs little: it writes bytes, counts events and parses nothing."""

import asyncio
import re
import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop

_EVENT = b"data: "
_END = b"0\r\n\r\n"
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)\r\n")


@dataclass(frozen=True, slots=True)
class Load:
    """Requests of one kind, to one server."""

    port: int
    request: bytes
    streams: int
    """Connections, each with one request at a time."""

    requests: int
    """Requests of each connection, one after the other."""

    spread: float = 0.0
    """Seconds within which the connections begin, one by one."""

    streamed: bool = True
    status: int = 200
    """Status of every answer."""


@dataclass(slots=True)
class Tally:
    """Events received, and their times."""

    events: int = 0
    seconds: float = 0.0
    first: "array[float]" = field(default_factory=lambda: array("d"))
    """Seconds from the write of each request to its first event, or to its whole answer."""

    gaps: "array[float]" = field(default_factory=lambda: array("d"))
    """Seconds between the reads that brought events of a stream, without its end."""


def run(load: Load) -> Tally:
    """Send everything and read every answer; RuntimeError unless each has its status."""
    tally: Tally = uvloop.run(_run(load, Tally()))
    return tally


def rates(loads: Sequence[Load], warm_s: float, seconds: float) -> list[float]:
    """Events/s that came of each load within these seconds, after others to warm up.

    Raises RuntimeError as `run`. The connections are closed in the end, whatever is under way.
    """
    found: list[float] = uvloop.run(_rates(loads, warm_s, seconds))
    return found


async def _rates(loads: Sequence[Load], warm_s: float, seconds: float) -> list[float]:
    tallies = [Tally() for _ in loads]
    running = [
        asyncio.create_task(_run(load, tally)) for load, tally in zip(loads, tallies, strict=True)
    ]
    counts: list[list[int]] = []
    for pause in (warm_s, seconds):
        ended, _ = await asyncio.wait(running, timeout=pause)
        for each in ended:
            each.result()
        counts.append([tally.events for tally in tallies])
    for each in running:
        each.cancel()
    await asyncio.wait(running)
    return [(after - before) / seconds for before, after in zip(*counts, strict=True)]


async def _run(load: Load, tally: Tally) -> Tally:
    loop = asyncio.get_running_loop()
    kind = _Streamed if load.streamed else _Whole
    connections = []
    for _ in range(load.streams):
        _, connection = await loop.create_connection(
            lambda: kind(load, tally), "127.0.0.1", load.port
        )
        connections.append(connection)

    def fail(loop: asyncio.AbstractEventLoop, problem: dict[str, Any]) -> None:
        error = problem.get("exception") or RuntimeError(problem["message"])
        for connection in connections:
            if not connection.done.done():
                connection.done.set_exception(error)

    loop.set_exception_handler(fail)
    started = time.perf_counter()
    for number, connection in enumerate(connections):
        loop.call_later(number / load.streams * load.spread, connection.send)
    try:
        for connection in connections:
            await connection.done
    finally:
        for connection in connections:
            connection.close()
    tally.seconds = time.perf_counter() - started
    return tally


class _Connection(asyncio.Protocol):
    """One connection; `done` is set when it has received all answers."""

    def __init__(self, load: Load, tally: Tally) -> None:
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._load, self._tally = load, tally
        self._left = load.requests
        self._write: Callable[[bytes], None]
        self._sent = self._last = 0.0
        self._tail = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # The transports of uvloop do not derive from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._write = self._transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.done.done():
            self.done.set_exception(RuntimeError(f"the server closed a connection: {exc}"))

    def send(self) -> None:
        """Write the next request."""
        self._left -= 1
        self._last, self._tail = 0.0, b""
        self._sent = time.perf_counter()
        self._write(self._load.request)

    def close(self) -> None:
        """Close the connection, whatever is under way."""
        self._transport.close()

    def _answered(self) -> None:
        if self._left:
            self.send()
        else:
            self.done.set_result(None)

    def _check(self, head: bytes) -> None:
        if not head.startswith(b"HTTP/1.1 %d" % self._load.status):
            raise RuntimeError(f"not a {self._load.status}: {head[:2000]!r}")


class _Streamed(_Connection):
    """Answers of server-sent events, in chunked transfer."""

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self._tail:
            self._check(data)
        # The tail is shorter than the mark of an event, so that no event counts twice.
        data = self._tail + data
        self._tail = data[1 - len(_EVENT) :]
        events = data.count(_EVENT)
        if events:
            self._tally.events += events
            if not self._last:
                self._tally.first.append(now - self._sent)
            elif b"[DONE]" not in data:
                self._tally.gaps.append(now - self._last)
            self._last = now
        if data.endswith(_END):
            self._answered()


class _Whole(_Connection):
    """Answers with a length."""

    def data_received(self, data: bytes) -> None:
        if not self._tail:
            self._check(data)
        self._tail += data
        head, end, body = self._tail.partition(b"\r\n\r\n")
        if not end:
            return
        length = _LENGTH.search(head + b"\r\n")
        if length is None:
            raise RuntimeError(f"an answer without a length: {head!r}")
        if len(body) == int(length[1]):
            self._tally.first.append(time.perf_counter() - self._sent)
            self._answered()
