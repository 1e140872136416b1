"""The public server, apart from the service behind it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from service.api.listening import bind
from service.api.server import PublicServer, public_config
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
