"""Faults of the engine and of the server's process, under load.

Each function causes one fault in a server of its own and returns the seconds until no client waited
for an answer. It raises AssertionError if a client hangs or gets a cut answer.
"""

import asyncio
import signal
import time
from collections.abc import Callable, Coroutine
from typing import Any

from loadtests.processes import eventually, served, wait_until
from tests.faults.disconnects import wait_until_idle
from tests.faults.load import load_on
from tests.served.server import Server

CLIENTS = 12
STUCK_SECONDS = 120.0

Fault = Callable[[Server], Coroutine[Any, Any, float]]


async def kill_the_engine(server: Server) -> float:
    """Send SIGKILL to the engine: every request gets an error, the process exits with 3."""
    async with load_on(server, CLIENTS) as load:
        await eventually(lambda: load.outcomes["ok"] > CLIENTS, STUCK_SECONDS)
        before = time.monotonic()
        server.engine().kill()
        load.stopping = True
        await eventually(lambda: load.open == 0, STUCK_SECONDS)
    assert not load.outcomes["cut"], load
    assert await asyncio.to_thread(server.process.wait, STUCK_SECONDS) == 3
    return max(load.ended) - before


async def stop_the_engine(server: Server) -> float:
    """Send SIGSTOP to the engine: not ready, all answered; after SIGCONT ready and empty again."""
    engine = server.engine()
    async with load_on(server, CLIENTS) as load:
        await eventually(lambda: load.outcomes["ok"] > CLIENTS, STUCK_SECONDS)
        before = time.monotonic()
        engine.suspend()
        await eventually(lambda: load.codes["engine_stalled"] > 0, STUCK_SECONDS)
        took = time.monotonic() - before
        load.stopping = True
        await eventually(lambda: load.open == 0, STUCK_SECONDS)
    assert server.metric("inference_requests_in_flight") == 0
    engine.resume()
    ready = f"{server.ops}/readyz"
    await asyncio.to_thread(wait_until, lambda: served(ready), STUCK_SECONDS, "readiness")
    assert not load.outcomes["cut"], load
    assert not load.outcomes["unreachable"], load
    await asyncio.to_thread(wait_until_idle, server)
    return took


async def terminate(server: Server) -> float:
    """Send SIGTERM under load: accepted requests are answered whole, the process exits with 0."""
    async with load_on(server, CLIENTS) as load:
        await eventually(lambda: load.outcomes["ok"] > CLIENTS, STUCK_SECONDS)
        assert not load.outcomes["refused"] + load.outcomes["unreachable"], load
        before = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        await asyncio.to_thread(server.process.wait, STUCK_SECONDS)
        took = time.monotonic() - before
    assert server.process.returncode == 0, server.log.read_text()[-4000:]
    assert not load.outcomes["cut"], load
    assert set(load.codes) <= {"draining"}, load
    return took
