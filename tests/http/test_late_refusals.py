"""Refusals of admission control to clients that come back before they were asked to."""

import asyncio
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from starlette.datastructures import Headers

from loadtests.processes import eventually
from service.admission import load_shedding
from service.context import internal_context
from service.errors import QueueFull
from service.http import lifecycle as late_refusals
from service.http.exchange import KEY, HttpExchange, Pause, Peer
from service.http.lifecycle import LateRefusals
from service.runtime.parts import Plugins
from service.settings.admission import AdmissionSettings
from tests.live_service import LiveService

PROMPT = {"model": "fake", "prompt": "Hello"}


@asynccontextmanager
async def connection(live: LiveService) -> AsyncGenerator[httpx.AsyncClient, None]:
    """A client that sends all its requests on one connection."""
    one = httpx.Limits(max_connections=1)
    async with httpx.AsyncClient(base_url=live.url, limits=one, trust_env=False) as client:
        yield client


@pytest.fixture
def full() -> Generator[LiveService, None, None]:
    """A service without a free slot, which holds every refusal that may be held."""
    with LiveService(admission=AdmissionSettings(max_queued=0, refusals_at_once_per_s=0)) as live:
        live.hold_every_slot()
        yield live


@pytest.fixture
def _long_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load_shedding, "_RETRY_S", (60.0, 60.0))
    monkeypatch.setattr(late_refusals, "_LONGEST_PAUSE_SECONDS", 60.0)


async def ask(client: httpx.AsyncClient, **fields: object) -> int:
    answer = await client.post("/v1/generate", json=PROMPT | fields, timeout=None)
    return answer.status_code


async def test_the_next_refusal_comes_when_the_pause_is_over(full: LiveService) -> None:
    async with connection(full) as client:
        began = time.monotonic()
        assert [await ask(client) for _ in range(3)] == [503] * 3
        assert time.monotonic() - began >= 2.0


async def never(*_: object) -> Any:
    raise AssertionError("a pause needs nothing of the client")


@pytest.mark.parametrize(("asked", "paused"), [(1.5, 1.5), (60.0, 2.0)])
async def test_a_pause_is_as_long_as_was_asked_within_a_bound(asked: float, paused: float) -> None:
    context, pause = internal_context("test", 60.0), Pause()
    context.admission_refusal = QueueFull("full", retry_after=asked)
    exchange = HttpExchange({KEY: Peer(pause=pause)}, Headers(), never, never, context, Plugins())

    began = time.monotonic()
    await LateRefusals(0).hold(exchange)

    assert began + paused <= pause.until <= time.monotonic() + paused


@pytest.mark.usefixtures("_long_pause")
async def test_other_connections_and_other_answers_are_not_held(full: LiveService) -> None:
    async with connection(full) as hasty, connection(full) as patient:
        assert await ask(hasty) == 503
        held = asyncio.create_task(ask(hasty))
        assert await ask(patient) == 503
        assert (await patient.get("/v1/adapters", timeout=None)).status_code == 200
        assert not held.done()
        held.cancel()
    await eventually(lambda: full.outcomes() == {"refused": 2, "ok": 1, "cancelled": 1})


@pytest.mark.usefixtures("_long_pause")
async def test_a_deadline_ends_the_pause(full: LiveService) -> None:
    async with connection(full) as client:
        assert await ask(client) == 503
        assert await ask(client, timeout_ms=200) == 503


@pytest.mark.usefixtures("_long_pause")
async def test_the_first_refusals_of_a_second_and_large_bodies_are_not_held() -> None:
    with LiveService(admission=AdmissionSettings(max_queued=0, refusals_at_once_per_s=20)) as live:
        live.hold_every_slot()
        async with connection(live) as client:
            assert [await ask(client) for _ in range(20)] == [503] * 20
    with LiveService(admission=AdmissionSettings(max_queued=0, refusals_at_once_per_s=0)) as live:
        live.hold_every_slot()
        async with connection(live) as client:
            large = {"prompt": "a" * 100_000}
            assert [await ask(client, **large) for _ in range(2)] == [503] * 2
