"""Cost of series and request lines: the service with all of them and with none, in turns.

    python -m tools.ops.overhead [--rounds 8 --seconds 4]

Both serve the one-layer model, whose API process is the bottleneck; traces are off. Prints, over
the rounds, the ratio of requests answered in a second and that of the API process' processor time a
request. The second says the same on a machine that others use too.
"""

import asyncio
import random
import statistics
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.served.configuration import tiny_config
from tests.served.server import Server, started_server
from tests.served.tiny import build_tiny_model
from tools.command_line import command_line

_CLIENTS = 16
_TOKENS = 32


@dataclass(frozen=True)
class Turn:
    """Requests answered in a second, and seconds of processor time a request."""

    rate: float
    cost: float


async def load(server: Server, seconds: float) -> Turn:
    """Streamed requests of 32 tokens by 16 clients for so long."""
    process = psutil.Process(server.process.pid)
    body = {"model": server.model, "prompt": "Hello", "max_tokens": _TOKENS, "stream": True}
    answered = 0
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=server.url, limits=limits, trust_env=False) as http:
        end = time.monotonic() + seconds

        async def client() -> None:
            nonlocal answered
            while time.monotonic() < end:
                (await http.post("/v1/generate", json=body, timeout=60)).raise_for_status()
                answered += 1

        before, began = _processor(process), time.monotonic()
        await asyncio.gather(*(client() for _ in range(_CLIENTS)))
        took = time.monotonic() - began
    return Turn(answered / took, (_processor(process) - before) / answered)


def main() -> None:
    """Measure and print."""
    parser = command_line("tools.ops.overhead", __doc__)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    turns: dict[str, list[Turn]] = {"service.cli.main": [], "tools.ops.bare": []}
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        build_tiny_model(Path(".cache/models/smollm2-135m-instruct"), Path(name) / "model")
        config = tiny_config(Path(name) / "model")
        servers: dict[str, Server] = {}
        for module in turns:
            folder = Path(name) / module
            folder.mkdir()
            servers[module] = stack.enter_context(started_server(folder, config, module))
            asyncio.run(load(servers[module], options.seconds))
        dice = random.Random(0)
        for _ in range(options.rounds):
            for module in dice.sample(list(turns), 2):
                turns[module].append(asyncio.run(load(servers[module], options.seconds)))
    told, bare = turns.values()
    for what, values in (
        ("requests a second", [a.rate / b.rate for a, b in zip(told, bare, strict=True)]),
        ("processor time a request", [a.cost / b.cost for a, b in zip(told, bare, strict=True)]),
    ):
        low, high = min(values), max(values)
        print(f"{what}: with / without {statistics.median(values):.4f} ({low:.4f} to {high:.4f})")
    rates = [statistics.median(turn.rate for turn in each) for each in (told, bare)]
    costs = [statistics.median(turn.cost for turn in each) * 1000 for each in (told, bare)]
    print(f"median: {rates[0]:.1f} and {rates[1]:.1f}/s, {costs[0]:.3f} and {costs[1]:.3f} ms")


def _processor(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
