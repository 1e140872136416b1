"""The public server, apart from the service behind it."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
import uvicorn
from fastapi import FastAPI

from service.api.listening import bind
from service.api.server import PublicServer, SleepingServer, public_config
from service.runtime.status import Phase, Status
from service.settings.tree import HttpSettings


async def test_a_started_service_is_ready_once_its_port_takes_connections() -> None:
    status, seen = Status(), list[tuple[bool, str]]()

    def look() -> None:
        seen.append((status.ready, str(status)))

    @asynccontextmanager
    async def started(app: FastAPI) -> AsyncGenerator[None, None]:
        status.phase = Phase.READY
        look()
        yield

    def on_started() -> None:
        look()
        server.stop()

    config = public_config(FastAPI(lifespan=started), HttpSettings())
    server = PublicServer(config, status, on_started)
    with bind("http.port", "127.0.0.1", 0) as socket:
        await server.serve([socket])
    assert seen == [(False, "starting"), (True, "ready")]


async def test_a_server_that_sleeps_wakes_to_exit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.server._DATE_SECONDS", 3600.0)
    server = SleepingServer(uvicorn.Config(FastAPI()))
    running = asyncio.create_task(server.main_loop())
    await asyncio.sleep(0.05)
    assert dict(server.server_state.default_headers)[b"date"]
    assert not running.done()
    await asyncio.to_thread(setattr, server, "should_exit", True)
    await asyncio.wait_for(running, 30)
    server.should_exit = True  # once more, when nothing runs


async def test_a_server_renews_its_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.server._DATE_SECONDS", 0.01)
    server = SleepingServer(uvicorn.Config(FastAPI()))
    running = asyncio.create_task(server.main_loop())
    async with asyncio.timeout(30):
        dates: set[bytes] = set()
        while len(dates) < 2:
            await asyncio.sleep(0.1)
            dates.add(dict(server.server_state.default_headers)[b"date"])
    server.should_exit = True
    await asyncio.wait_for(running, 30)
