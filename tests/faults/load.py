"""Clients that stream without a pause, and the outcome of each of their requests."""

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import httpx

from tests.served.server import Server


@dataclass
class Load:
    """Outcomes that the clients saw.

    `outcomes` counts `ok` (a stream with its `[DONE]`), `refused` (an error in the one shape, as
    status or as last event), `unreachable` (no answer began) and `cut` (an answer that ended with
    neither, which must never be). `ended` holds the time of each end, in seconds of
    `time.monotonic`; `open` is how many wait for an answer or read one.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    codes: Counter[str] = field(default_factory=Counter)
    ended: list[float] = field(default_factory=list, repr=False)
    open: int = 0
    stopping: bool = False


@asynccontextmanager
async def load_on(server: Server, clients: int, seed: int = 0) -> AsyncIterator[Load]:
    """Keep so many clients asking while the block runs; then wait for their open requests."""
    load = Load()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=60, limits=limits, trust_env=False
    ) as http:
        dice = random.Random(seed)
        tasks = [
            asyncio.create_task(_ask_on(http, server.model, dice, load)) for _ in range(clients)
        ]
        try:
            yield load
        finally:
            load.stopping = True
            await asyncio.gather(*tasks)


async def _ask_on(http: httpx.AsyncClient, model: str, dice: random.Random, load: Load) -> None:
    while not load.stopping:
        body = {"model": model, "prompt": "a", "max_tokens": dice.randint(1, 200), "stream": True}
        load.open += 1
        outcome = await _ask(http, body, load)
        load.open -= 1
        load.outcomes[outcome] += 1
        load.ended.append(time.monotonic())
        if outcome != "ok":
            await asyncio.sleep(0.05)


async def _ask(http: httpx.AsyncClient, body: dict[str, object], load: Load) -> str:
    began = False
    last = ""
    try:
        async with http.stream("POST", "/v1/generate", json=body) as answer:
            began = answer.status_code == 200
            async for line in answer.aiter_lines():
                last = line or last
    except httpx.HTTPError:
        return "cut" if began else "unreachable"
    if last == "data: [DONE]":
        return "ok"
    try:
        load.codes[json.loads(last.removeprefix("data: "))["error"]["code"]] += 1
    except (ValueError, KeyError):
        return "cut"
    return "refused"
