"""The public server, apart from the service behind it."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
from fastapi import FastAPI

from service.http.server import PublicServer, bind, public_config
from service.runtime.parts import plugin_types
from service.runtime.status import Phase, Status
from service.settings.tree import HttpSettings
from tests.live_service import MODEL, LiveService
from tools.keys import bearer, entry, write_keys


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


PROTECTION = {
    "x-content-type-options": "nosniff",
    "content-security-policy": "frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
}


def protected(answer: httpx.Response) -> bool:
    """Whether a browser neither guesses an answer's type nor frames it, nor names it elsewhere."""
    return all(value in answer.headers.get_list(name) for name, value in PROTECTION.items())


def test_a_browser_is_told_to_frame_and_to_guess_no_answer(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys", entry("a"))
    pages = [path for kind in plugin_types().values() for path in kind.open_paths]
    console = [path for path in pages if path == "/console"]
    with LiveService(tenants={"keys": keys}, http={"cors_origins": ["https://a.com"]}) as live:
        client = httpx.Client(base_url=live.url, headers=bearer("a"), trust_env=False)
        body = {"model": MODEL, "prompt": "x", "stream": True}
        asked = {"origin": "https://a.com", "access-control-request-method": "POST"}
        with client:
            public = [
                *(client.get(path) for path in ("/health", "/docs", "/openapi.json", *console)),
                *(client.get(path) for path in ("/v1/adapters", "/none", "/v1/generate")),
                client.get("/v1/adapters", headers={"authorization": "Bearer wrong"}),
                client.get("/health", headers={"host": "a, b"}),
                client.get("/health", headers={"x-large": "x" * 70_000}),
                client.options("/v1/generate", headers=asked),
                client.post("/v1/generate", json=body),
                client.post("/v1/generate", content="{"),
            ]
        ops = [
            httpx.get(live.ops_url + path, headers=headers, trust_env=False)
            for path in ("/livez", "/metrics", *console, "/none")
            for headers in ({}, {"host": "evil.com"}, {"host": "a, b"})
        ]
    statuses = [answer.status_code for answer in public]
    assert statuses == [200] * (4 + len(console)) + [404, 405, 401, 400, 431, 200, 200, 415]
    assert {answer.status_code for answer in ops} == {200, 400, 403, 404}
    assert [answer for answer in (*public, *ops) if not protected(answer)] == []
