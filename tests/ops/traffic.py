"""Clients of several tenants that can be told to misbehave."""

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import httpx

from tests.ops.site import ADAPTER, MODEL, SORTER
from tests.served.server import Server
from tools.keys import bearer

Client = Callable[[], Coroutine[Any, Any, None]]


class Traffic:
    """Sends requests until stopped; the switches below choose the kinds.

    `late` sends requests whose deadline cannot be met, `impatient` requests to the adapter, whose
    objective cannot be met; `hurried` sends requests of the flood's tenant that cannot wait;
    `doubtful` sends the base inputs on which it abstains, `unusual` the classifier inputs that are
    longer than usual; `flood` is the number of clients that send long prompts for long answers.
    """

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http
        self._dice = random.Random(0)
        self._tasks: list[asyncio.Task[None]] = []
        self.late = self.impatient = self.hurried = self.doubtful = self.unusual = False
        self.statuses: Counter[int] = Counter()
        self.flood: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to send requests."""
        clients = (
            *(self._chat, self._generate, self._classify, self._sort),
            *(self._small, self._switched),
        )
        self._tasks = [asyncio.create_task(self._on(client)) for client in clients]

    def add_flood(self) -> None:
        """Add a client with a long prompt and a long answer."""
        self.flood.append(asyncio.create_task(self._on(self._long)))

    async def end_flood(self) -> None:
        """Stop those clients."""
        await _cancelled(self.flood)

    async def stop(self) -> None:
        """Stop all requests."""
        await self.end_flood()
        await _cancelled(self._tasks)

    async def _on(self, client: Client) -> None:
        while True:
            try:
                await client()
            except httpx.HTTPError:
                await asyncio.sleep(0.5)
            await asyncio.sleep(0.05)

    async def _chat(self) -> None:
        messages = [{"role": "user", "content": f"Tell me of {self._dice.random()}"}]
        body = {"model": MODEL, "messages": messages, "max_tokens": 24, "stream": True}
        await self._ask("gold", "/v1/chat/completions", body)

    async def _generate(self) -> None:
        shared = "The quick brown fox jumps over the lazy dog. " * 6
        body = {"model": MODEL, "prompt": shared + str(self._dice.random()), "max_tokens": 16}
        await self._ask("silver", "/v1/generate", body)

    async def _classify(self) -> None:
        body = {
            "model": MODEL,
            "input": [f"text {self._dice.random()}" for _ in range(16)],
            "candidate_labels": ["good", "bad", "dull"],
            "threshold": 0.999 if self.doubtful else 0.0,
        }
        await self._ask("silver", "/v1/classify", body)
        await asyncio.sleep(0.3)

    async def _sort(self) -> None:
        texts = [usual_text(self._dice) for _ in range(16)]
        if self.unusual:
            texts = [" ".join([text] * 8) for text in texts]
        await self._ask("gold", "/v1/classify", {"model": SORTER, "input": texts})
        await asyncio.sleep(0.3)

    async def _small(self) -> None:
        body = {"model": MODEL, "prompt": "Hi", "max_tokens": 2}
        await self._ask("small", "/v1/generate", body)
        await asyncio.sleep(0.5)

    async def _switched(self) -> None:
        body = {"model": MODEL, "prompt": "Hello there", "max_tokens": 4}
        if self.impatient:
            await self._ask("gold", "/v1/generate", body | {"model": ADAPTER})
        if self.late:
            await self._ask("gold", "/v1/generate", body | {"timeout_ms": 1})
        if self.hurried:
            await asyncio.gather(
                *(self._ask("gold", "/v1/generate", body | {"timeout_ms": 500}) for _ in range(8))
            )
        await asyncio.sleep(0.1)

    async def _long(self) -> None:
        words = " ".join(str(self._dice.random()) for _ in range(8))
        body = {"model": MODEL, "prompt": words, "max_tokens": 300, "stream": True}
        await self._ask("gold", "/v1/generate", body)

    async def _ask(self, tenant: str, path: str, body: dict[str, Any]) -> None:
        headers = bearer(tenant)
        answer = await self._http.post(path, json=body, headers=headers)
        self.statuses[answer.status_code] += 1


def usual_text(dice: random.Random) -> str:
    """A text as the classifier gets them."""
    return f"text {dice.random()}"


@asynccontextmanager
async def traffic_on(server: Server) -> AsyncIterator[Traffic]:
    """Traffic that goes on while the block runs."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(
        base_url=server.url, timeout=60, limits=limits, trust_env=False
    ) as http:
        traffic = Traffic(http)
        traffic.start()
        try:
            yield traffic
        finally:
            await traffic.stop()


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    tasks.clear()
