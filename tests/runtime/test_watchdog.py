"""An engine that stands still or has ended, as clients and probes see it."""

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from loadtests.processes import eventually, running
from service.runtime.status import Phase
from service.settings.tree import WatchdogSettings
from tests.answers import error_of, events_of, refusal
from tests.live_service import LiveService

BODY = {"model": "fake", "prompt": "Tell me"}
STALL_S = 1.5
"""More than the watchdog's late tick: a test that stands still with its service is no stall."""
HASTY = WatchdogSettings(stall_s=STALL_S, probe_s=0.1, restart_s=0.5)
BUSY = HASTY.model_copy(update={"probe_s": 60.0})
"""The same without probes, which would take tokens that the engine is spared for a request."""


async def probe(live: LiveService, path: str) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        return (await client.get(live.ops_url + path)).status_code


async def test_a_stalled_engine_ends_what_runs_and_waits_and_comes_back() -> None:
    with LiveService(watchdog=BUSY, admission={"max_in_flight": 1}) as live:
        live.engine.frozen, live.engine.spared = True, 2
        async with live.client() as client:
            async with asyncio.TaskGroup() as group:
                streamed = client.post("/v1/generate", json=BODY | {"stream": True})
                running = group.create_task(streamed)
                await eventually(lambda: live.admission.in_flight == 1)
                waiting = group.create_task(client.post("/v1/generate", json=BODY))
            assert await probe(live, "/readyz") == 503
            refused = await client.post("/v1/generate", json=BODY)
            await eventually(lambda: not live.status.live)
            assert await probe(live, "/livez") == 503
            live.engine.frozen = False
            await eventually(lambda: live.status.ready)
            assert await probe(live, "/livez") == 200
            assert (await client.post("/v1/generate", json=BODY)).status_code == 200
        await eventually(live.idle)
    *_, last = events_of(running.result())
    assert error_of(last)["code"] == "engine_stalled"
    assert refusal(waiting.result(), 503)["code"] == "engine_stalled"
    assert refusal(refused, 503)["code"] == "engine_stalled"
    assert refused.headers["retry-after"] == "10"


async def test_an_idle_engine_that_stands_still_is_noticed_without_a_request() -> None:
    with LiveService(watchdog=HASTY) as live:
        live.engine.frozen = True
        await eventually(lambda: live.status.stalled)


async def test_an_engine_that_nobody_waits_for_is_not_stalled_by_whoever_holds_its_slots() -> None:
    with LiveService(watchdog=HASTY) as live:
        give_back = live.hold_every_slot()
        await asyncio.sleep(2 * STALL_S)
        assert live.status.ready
        give_back()


async def test_an_engine_that_is_slow_but_moves_is_not_stalled() -> None:
    with LiveService(watchdog=HASTY, token_seconds=0.2, admission={"max_in_flight": 1}) as live:
        async with live.client() as client:
            asked = [client.post("/v1/generate", json=BODY | {"max_tokens": 4}) for _ in range(3)]
            answers = await asyncio.gather(*asked)
    assert [answer.status_code for answer in answers] == [200, 200, 200]


async def test_an_engine_whose_process_computes_is_slow_until_it_is_stopped() -> None:
    with LiveService(watchdog=HASTY) as live, spinning() as pid:
        live.engine.pids, live.engine.frozen = [pid], True
        await asyncio.sleep(2 * STALL_S)
        assert not live.status.stalled
        os.kill(pid, signal.SIGSTOP)
        await eventually(lambda: live.status.stalled)


async def test_an_engine_that_computes_for_ever_is_stalled() -> None:
    settings = HASTY.model_copy(update={"longest_step_s": 2.0})
    with LiveService(watchdog=settings) as live, spinning() as pid:
        live.engine.pids, live.engine.frozen = [pid], True
        await eventually(lambda: live.status.stalled)


@contextmanager
def spinning() -> Iterator[int]:
    """A process that keeps one core busy."""
    with running([sys.executable, "-c", "while True: pass"]) as process:
        yield process.pid


async def test_an_engine_that_has_ended_ends_the_requests_and_the_service() -> None:
    with LiveService() as live:
        live.engine.frozen = True
        async with live.client() as client, asyncio.TaskGroup() as group:
            running = group.create_task(client.post("/v1/generate", json=BODY))
            await eventually(lambda: live.admission.in_flight == 1)
            live.engine.dead = True
        await eventually(lambda: live.status.phase is Phase.STOPPING)
        assert live.status.failure is not None
        assert not live.status.ready
        assert str(live.status) == "failed"
    assert refusal(running.result(), 503)["code"] == "engine_dead"
