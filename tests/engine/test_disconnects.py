"""Clients that go away leave nothing behind in the real engine."""

import asyncio
import random

import httpx

from tests.engine.server import Server, wait_for

CLIENTS = 200


async def _leave_early(client: httpx.AsyncClient, dice: random.Random) -> None:
    stream = dice.random() < 0.5
    path, prompt = dice.choice(
        [
            ("/v1/generate", {"prompt": "a"}),
            ("/v1/completions", {"prompt": "a", "ignore_eos": True}),
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "a"}]}),
        ]
    )
    body = {"model": "tiny", "max_tokens": 1500, "stream": stream, "n": 2} | prompt
    try:
        async with asyncio.timeout(dice.uniform(0.01, 2)):
            async with client.stream("POST", path, json=body) as answer:
                async for _ in answer.aiter_raw():
                    pass
    except (TimeoutError, httpx.HTTPError):
        pass


async def test_two_hundred_clients_disconnect_at_random(tiny: Server) -> None:
    dice = random.Random(20)
    limits = httpx.Limits(max_connections=CLIENTS)
    async with httpx.AsyncClient(base_url=tiny.url, timeout=60, limits=limits) as client:
        await asyncio.gather(*(_leave_early(client, dice) for _ in range(CLIENTS)))
    for series in (
        "inference_requests_in_flight",
        "inference_requests_queued",
        "vllm:num_requests_running",
        "vllm:num_requests_waiting",
    ):
        wait_for(lambda name=series: tiny.metric(name) == 0, 15, f"{series} of 0")
    outcomes = tiny.post("/v1/generate", {"model": "tiny", "prompt": "a", "max_tokens": 2})
    assert outcomes.status_code == 200
