"""Observation of a running service: its loop, its memory, /health, and a stream beside."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

import httpx
import psutil

from tests.served.server import Server

_LAG, _OWN_LAG = "inference_event_loop_lag_seconds", "inference_event_loop_own_lag_seconds"
_BUCKET = re.compile(r'^(\w+)_bucket\{.*le="([^"]+)".*\} (\S+)$')
_EVERY_SECONDS = 0.02


@dataclass
class Watch:
    """Findings so far; seconds and bytes."""

    server: Server
    health: list[float] = field(default_factory=list)
    memory: list[tuple[float, int]] = field(default_factory=list)
    longest_gap: float = 0.0
    """Between two tokens of a stream that runs beside all that is sent."""

    def worst_own_lag(self) -> float:
        """The longest stall of the loop in which the service itself computed, at most."""
        return self._worst(_OWN_LAG)

    def _worst(self, series: str) -> float:
        """The bound of the highest bucket that the service has filled."""
        text = httpx.get(f"{self.server.ops}/metrics", timeout=10).text
        found = [m for line in text.splitlines() if (m := _BUCKET.match(line)) and m[1] == series]
        buckets = sorted((float(m[2]), float(m[3])) for m in found)
        below = 0.0
        worst = 0.0
        for bound, count in buckets:
            worst = bound if count > below else worst
            below = count
        return worst

    def report(self) -> str:
        """A line on the loop, the foreign client and the memory."""
        waits = sorted(self.health)
        slowest = 1000 * waits[-1] if waits else 0.0
        median = 1000 * waits[len(waits) // 2] if waits else 0.0
        first, last = self.memory[0][1] / 1e6, self.memory[-1][1] / 1e6
        lag, own = 1000 * self._worst(_LAG), 1000 * self.worst_own_lag()
        most = max(size for _, size in self.memory) / 1e6
        return (
            f"loop lag at most {lag:g} ms, the service's own part at most {own:g} ms; "
            f"GET /health p50 {median:.1f} ms, worst {slowest:.0f} ms; "
            f"longest gap of a stream beside {1000 * self.longest_gap:.0f} ms; "
            f"API process {first:.0f} -> {last:.0f} MB, most {most:.0f} MB"
        )


@asynccontextmanager
async def watched(server: Server) -> AsyncIterator[Watch]:
    """Ask for /health every 20 ms, note the memory and read a stream, until the block ends."""
    watch = Watch(server)
    tasks = [asyncio.create_task(look(watch)) for look in (_look, _read)]
    try:
        yield watch
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _look(watch: Watch) -> None:
    process = psutil.Process(watch.server.process.pid)
    async with httpx.AsyncClient(base_url=watch.server.url, timeout=60, trust_env=False) as client:
        while True:
            began = time.monotonic()
            (await client.get("/health")).raise_for_status()
            watch.health.append(time.monotonic() - began)
            watch.memory.append((began, process.memory_info().rss))
            await asyncio.sleep(_EVERY_SECONDS)


async def _read(watch: Watch) -> None:
    body = {"model": "tiny", "prompt": "a", "max_tokens": 1000, "stream": True, "ignore_eos": True}
    async with httpx.AsyncClient(base_url=watch.server.url, timeout=60, trust_env=False) as client:
        while True:
            async with client.stream("POST", "/v1/completions", json=body) as response:
                if response.status_code != 200:
                    await asyncio.sleep(_EVERY_SECONDS)
                    continue
                last = None
                async for _ in response.aiter_bytes():
                    now = time.monotonic()
                    watch.longest_gap = max(watch.longest_gap, now - (last or now))
                    last = now
