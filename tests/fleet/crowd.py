"""Clients that ask through a router until they are stopped, and what became of each request."""

import asyncio
import json
import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

OK, REFUSED, FAILED, SILENT = "answered", "refused", "failed", "neither"
"""A whole answer; 429; an error that the client sees; no answer, and nothing that says so."""

_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Ended:
    """A request that ended, `at` seconds after the crowd began."""

    at: float
    seconds: float
    outcome: str
    status: int
    detail: str = ""


def _asked() -> list[dict[str, str]]:
    """Messages like no other's from their beginning, since routers send like ones to one place."""
    return [{"role": "user", "content": f"{secrets.token_hex(16)}: what is that?"}]


async def ask(client: httpx.AsyncClient, body: Mapping[str, Any]) -> tuple[str, int, str]:
    """Send a chat; its outcome, its status (0 without one), and the error."""
    try:
        if not body.get("stream"):
            answer = await client.post("/v1/chat/completions", json=body)
            text = answer.text
        else:
            async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                text = (await answer.aread()).decode()
    except httpx.TimeoutException as error:
        return SILENT, 0, repr(error)
    except httpx.TransportError as error:
        return FAILED, 0, repr(error)
    if answer.status_code == 429:
        return REFUSED, 429, text[:300]
    if answer.status_code != 200:
        return FAILED, answer.status_code, text[:300]
    if not body.get("stream"):
        whole = json.loads(text)["choices"][0]["finish_reason"] is not None
        return (OK if whole else SILENT), 200, "" if whole else text[:300]
    if text.endswith("data: [DONE]\n\n"):
        return OK, 200, ""
    last = text.rstrip().rpartition("data: ")[2]
    return (FAILED if '"error"' in last else SILENT), 200, last[:300]


@dataclass
class Crowd:
    """What the clients of a block met."""

    ended: list[Ended] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    def outcomes(self, since: float = 0.0, until: float = float("inf")) -> Counter[str]:
        """How many requests ended how, within these seconds since the beginning."""
        return Counter(each.outcome for each in self.ended if since <= each.at < until)

    def details(self, *outcomes: str) -> list[str]:
        """The errors of requests that ended so, each once."""
        found = (f"{each.status} {each.detail}" for each in self.ended if each.outcome in outcomes)
        return sorted(set(found))[:3]

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return time.monotonic() - self.began


@contextmanager
def crowd(
    url: str, clients: int, body: dict[str, Any], *, pause: float = 0.0, key: str = "none"
) -> Iterator[Crowd]:
    """So many clients that ask one after the other, until the block ends and all have ended.

    One that was refused waits as long as it was asked to, at most a second.
    """
    met, stopped = Crowd(), threading.Event()
    thread = threading.Thread(
        target=lambda: asyncio.run(_ask_all(met, stopped, url, clients, body, pause, key))
    )
    thread.start()
    try:
        yield met
    finally:
        stopped.set()
        thread.join(2 * _PATIENCE_S)
        assert not thread.is_alive(), "a client did not end"


async def _ask_all(
    met: Crowd,
    stopped: threading.Event,
    url: str,
    clients: int,
    body: dict[str, Any],
    pause: float,
    key: str,
) -> None:
    async def one() -> None:
        headers = {"authorization": f"Bearer {key}"}
        limits = httpx.Limits(max_keepalive_connections=1)
        async with httpx.AsyncClient(
            base_url=url, headers=headers, timeout=_PATIENCE_S, limits=limits, trust_env=False
        ) as client:
            while not stopped.is_set():
                began = time.monotonic()
                outcome, status, detail = await ask(client, body | {"messages": _asked()})
                now = time.monotonic()
                met.ended.append(Ended(now - met.began, now - began, outcome, status, detail))
                await asyncio.sleep(pause if outcome == OK else max(pause, 1.0))

    await asyncio.gather(*(one() for _ in range(clients)))
