"""Faults of the engine and of the server's process, under load.

Each function does one fault to a server of its own and raises AssertionError where a client would
have been wronged; it returns the seconds that it took until no client waited for an answer.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

import httpx

from tools.faults.disconnects import wait_until_idle
from tools.faults.load import load_on
from tools.served.server import Server, wait_for

CLIENTS = 12
STUCK_SECONDS = 120.0

Fault = Callable[[Server], Coroutine[Any, Any, float]]


async def kill_the_engine(server: Server) -> float:
    """SIGKILL to the engine: what runs and waits gets an error, the process exits with 3."""
    async with load_on(server, CLIENTS) as load:
        await _until(lambda: load.outcomes["ok"] > CLIENTS)
        before = time.monotonic()
        server.engine().kill()
        load.stopping = True
        await _until(lambda: load.open == 0)
    assert not load.outcomes["cut"], load
    assert await asyncio.to_thread(server.process.wait, STUCK_SECONDS) == 3
    return max(load.ended) - before


async def stop_the_engine(server: Server) -> float:
    """SIGSTOP to the engine: not ready, all answered; after SIGCONT ready and empty again."""
    engine = server.engine()
    async with load_on(server, CLIENTS) as load:
        await _until(lambda: load.outcomes["ok"] > CLIENTS)
        before = time.monotonic()
        engine.suspend()
        await _until(lambda: load.codes["engine_stalled"] > 0)
        took = time.monotonic() - before
        load.stopping = True
        await _until(lambda: load.open == 0)
    assert server.metric("inference_requests_in_flight") == 0
    engine.resume()
    await asyncio.to_thread(wait_for, lambda: _ready(server), STUCK_SECONDS, "readiness")
    assert not load.outcomes["cut"], load
    assert not load.outcomes["unreachable"], load
    await asyncio.to_thread(wait_until_idle, server)
    return took


async def terminate(server: Server) -> float:
    """SIGTERM under load: what was accepted is answered whole, and the process exits with 0."""
    async with load_on(server, CLIENTS) as load:
        await _until(lambda: load.outcomes["ok"] > CLIENTS)
        assert not load.outcomes["refused"] + load.outcomes["unreachable"], load
        before = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(server.process.wait, STUCK_SECONDS)
        took = time.monotonic() - before
    assert server.process.returncode == 0, server.log.read_text()[-4000:]
    assert not load.outcomes["cut"], load
    assert set(load.codes) <= {"draining"}, load
    return took


def _ready(server: Server) -> bool:
    return httpx.get(f"{server.ops}/readyz", timeout=5).status_code == 200


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(STUCK_SECONDS):
        while not condition():  # noqa: ASYNC110 - what it looks at is changed by other tasks
            await asyncio.sleep(0.01)
