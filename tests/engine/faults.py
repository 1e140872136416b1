"""Faults done to a real server under load, many times: `make test-faults`.

Each function does one fault to a server of its own and raises AssertionError where a client would
have been wronged; it returns the seconds that it took until no client waited for an answer.
"""

import argparse
import asyncio
import signal
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx

from tests.engine.disconnects import CLIENTS as LEAVERS
from tests.engine.disconnects import disconnect, wait_until_idle
from tests.engine.load import load_on
from tests.engine.server import Server, started_server, wait_for

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


def repeat(fault: Fault, times: int, config: dict[str, Any], *, restart: bool) -> list[float]:
    """Do a fault so many times, each to a new server or all to one; the seconds of each."""
    took: list[float] = []
    while len(took) < times:
        with (
            tempfile.TemporaryDirectory() as folder,
            started_server(Path(folder), config) as server,
        ):
            for _ in range(1 if restart else times):
                took.append(asyncio.run(fault(server)))
                print(  # noqa: T201 - progress on long work
                    f"{fault.__name__} {len(took)}/{times}: {took[-1]:.2f} s", flush=True
                )
    return took


def main() -> None:
    """Run the faults and print a line for each kind."""
    from tests.engine.tiny import build_tiny_model

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--stops", type=int, default=20)
    parser.add_argument("--terms", type=int, default=100)
    parser.add_argument("--disconnects", type=int, default=2000, help="clients, 200 at a time")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder) / "model"
        build_tiny_model(Path(".cache/models/smollm2-135m-instruct"), model)
        config = tiny_config(model)
        for fault, times, restart in (
            (disconnect, -(-arguments.disconnects // LEAVERS), False),
            (stop_the_engine, arguments.stops, False),
            (kill_the_engine, arguments.kills, True),
            (terminate, arguments.terms, True),
        ):
            if took := repeat(fault, times, config, restart=restart):
                median, most = statistics.median(took), max(took)
                print(  # noqa: T201 - the script's answer
                    f"{fault.__name__}: {times} times, no client stuck or cut; seconds "
                    f"until all was over: median {median:.2f}, most {most:.2f}"
                )


def tiny_config(model: Path) -> dict[str, Any]:
    """The configuration of a server of the one-layer model at this folder."""
    from tests.engine.conftest import ENGINE

    return {
        "model": {"name": "tiny", "path": str(model)},
        "engine": ENGINE | {"dtype": "float32", "max_num_seqs": 8},
        "gate": {"max_wait_ms": 60_000},
    }


if __name__ == "__main__":
    main()
