"""Clients that disconnect at a random instant, with streamed and other answers."""

import asyncio
import random
import time
from functools import partial

import httpx

from loadtests.processes import wait_until
from tests.served.server import Server

CLIENTS = 200
_IDLE_SECONDS = 120
_IDLE = (
    "inference_requests_in_flight",
    "inference_requests_queued",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
)
_TALK = [{"role": "user", "content": "a"}]
_BODIES: dict[str, dict[str, object]] = {
    "/v1/generate": {"prompt": "a", "max_tokens": 1500},
    "/v1/completions": {"prompt": "a", "max_tokens": 1500, "ignore_eos": True},
    "/v1/chat/completions": {"messages": _TALK, "max_tokens": 1500},
    "/v1/responses": {"input": _TALK, "max_output_tokens": 1500},
    "/v1/messages": {"messages": _TALK, "max_tokens": 1500},
}
_SEVERAL = {"/v1/generate", "/v1/completions", "/v1/chat/completions"}
"""Paths that give several answers to a prompt. One answer takes another way."""


async def disconnect(server: Server, seed: int | None = None) -> float:
    """Have 200 clients disconnect within two seconds; seconds until all their requests ended."""
    dice = random.Random(seed)
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=server.url, timeout=60, limits=limits) as client:
        await asyncio.gather(*(_leave(client, server.model, dice) for _ in range(CLIENTS)))
    before = time.monotonic()
    await asyncio.to_thread(wait_until_idle, server)
    return time.monotonic() - before


async def _leave(client: httpx.AsyncClient, model: str, dice: random.Random) -> None:
    stream = dice.random() < 0.5
    path = dice.choice(list(_BODIES))
    body = {"model": model, "stream": stream} | _BODIES[path]
    if path in _SEVERAL:
        body["n"] = dice.choice((1, 2))
    try:
        async with asyncio.timeout(dice.uniform(0.01, 2)):
            async with client.stream("POST", path, json=body) as answer:
                async for _ in answer.aiter_raw():
                    pass
    except (TimeoutError, httpx.HTTPError):
        pass


def wait_until_idle(server: Server) -> None:
    """Return when no request runs or waits, in admission or in the engine."""
    for series in _IDLE:
        wait_until(partial(_is_zero, server, series), _IDLE_SECONDS, f"{series} of 0")


def _is_zero(server: Server, series: str) -> bool:
    return server.metric(series) == 0
