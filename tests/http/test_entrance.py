"""Default deny: every route needs a live key, however its path, host or headers are written."""

import asyncio
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.routing import Mount
from typer.testing import CliRunner

from loadtests.processes import PATIENCE_S, eventually
from service.cli.main import app as command_line
from service.routes.documentation import OPEN_PATHS
from tests.answers import refusal
from tests.live_service import LiveService
from tools.keys import bearer, entry, key_of, sha256_of, write_keys

OPENAI_PATHS = ("/v1/models", "/v1/chat/completions", "/v1/completions")
HIDDEN = "/v1/adapters"


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveService]:
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    old = {"sha256": sha256_of("sk-expired"), "expires": past}
    keys = write_keys(
        tmp_path_factory.mktemp("keys") / "keys.yaml", entry("a"), entry("old", keys=[old])
    )
    with LiveService(tenants={"keys": keys}) as live:
        yield live


@pytest.fixture
def client(guarded: LiveService) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=guarded.url, trust_env=False) as connected:
        yield connected


async def raw(live: LiveService, head: str, body: bytes = b"") -> bytes:
    """Answer of the service to these bytes, which go out unchanged, as from no HTTP client."""
    reader, writer = await asyncio.open_connection("127.0.0.1", live.port)
    writer.write(head.replace("\n", "\r\n").encode("latin-1") + b"\r\n\r\n" + body)
    await writer.drain()
    async with asyncio.timeout(PATIENCE_S):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return answer


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_every_route_but_health_and_documentation_needs_a_key(
    guarded: LiveService, client: httpx.Client
) -> None:
    routes: list[Any] = [route for route in guarded.app.routes if not isinstance(route, Mount)]
    walk = {(method, route.path) for route in routes for method in route.methods}
    walk |= {(method, path) for path in OPENAI_PATHS for method in ("GET", "POST")}
    walk |= {(method, "/nothing/here") for method in ("GET", "POST", "DELETE", "OPTIONS", "TRACE")}
    assert len(walk) > 15
    reached = set()
    for method, path in sorted(walk):
        if client.request(method, path).status_code != 401:
            reached.add((method, path))
        else:
            refusal(client.request(method if method != "HEAD" else "GET", path), 401)
    paths = OPEN_PATHS | guarded.app.state.plugins.open_paths
    assert reached == {(m, p) for m, p in walk if p in paths and m in ("GET", "HEAD")}
    documentation = {"/docs", "/openapi.json"} | (paths & {"/console"})
    assert {path for _, path in reached} == {"/", "/health", "/ping", *documentation}
    assert guarded.engine.starts == 0


def test_the_documentation_works_without_a_key(client: httpx.Client) -> None:
    page = client.get("/docs")
    assets = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert len(assets) >= 3
    assert [client.get(asset).status_code for asset in assets] == [200] * len(assets)
    assert client.get("/static-offline-docs/redoc.standalone.js").status_code == 401


def test_the_schema_says_what_needs_a_key(client: httpx.Client) -> None:
    schema = client.get("/openapi.json").json()
    assert schema["components"]["securitySchemes"] == {
        "key": {"type": "http", "scheme": "bearer"},
        "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
    }
    needs = {
        path: operation["security"]
        for path, operations in schema["paths"].items()
        for operation in operations.values()
    }
    assert needs.pop("/health") == needs.pop("/ping") == []
    assert needs
    assert all(need == [{"key": []}, {"x-api-key": []}] for need in needs.values())


def test_open_paths_are_open_to_reading_only(client: httpx.Client) -> None:
    for path in OPEN_PATHS:
        for method in ("POST", "PUT", "DELETE", "OPTIONS", "PATCH"):
            assert client.request(method, path).status_code == 401


@pytest.mark.parametrize(
    "target",
    [
        "//v1/adapters",
        "/v1//adapters",
        "/./v1/adapters",
        "/v1/adapters/",
        "/V1/Adapters",
        "/v1/%61dapters",
        "/v1%2fadapters",
        "/%76%31/adapters",
        "/health/../v1/adapters",
        "/health/%2e%2e/v1/adapters",
        "/health/%2E%2E/v1/adapters",
        "/health%2f..%2fv1/adapters",
        "/docs/..%2fv1/adapters",
        "/static-offline-docs/../v1/adapters",
        "/static-offline-docs/%2e%2e/%2e%2e/keys.yaml",
        "/static-offline-docs/",
        "/%2e/health",
        "//health",
        "/health/",
        "/HEALTH",
        "/Health",
        "/health%00",
        "/health%20",
        "/health;v1",
        "/health%3fx",
        "/health/v1/adapters",
        "/v1/adapters?path=/health",
        "/v1/adapters%23/health",
        "http://127.0.0.1/v1/adapters",
        "http://health/v1/adapters",
        "http://x/health/../v1/adapters",
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "x/health?", "127.0.0.1/health#", "health", ""])
async def test_no_spelling_of_path_or_host_gets_past(
    guarded: LiveService, target: str, host: str
) -> None:
    answer = await raw(guarded, f"GET {target} HTTP/1.1\nHost: {host}\nConnection: close")
    assert status(answer) in (400, 401)  # 400 is the connection's, for no valid request
    if host == "127.0.0.1":
        assert status(answer) == (401 if target.startswith(("/", "http://127.0.0.1/")) else 400)


@pytest.mark.parametrize(
    "header",
    [
        "X-Original-URL: /health",
        "X-Rewrite-URL: /health",
        "X-Forwarded-Prefix: /health",
        "X-Forwarded-Host: localhost/health",
        "X-Forwarded-For: 127.0.0.1",
        "X-HTTP-Method-Override: GET",
        "X-Tenant: a",
        f"X-Auth-Token: {key_of('a')}",
        f"Cookie: authorization={key_of('a')}",
        "Upgrade: websocket\nSec-WebSocket-Version: 13\nSec-WebSocket-Key: AAAA",
    ],
)
async def test_no_other_header_gets_past(guarded: LiveService, header: str) -> None:
    answer = await raw(guarded, f"GET {HIDDEN} HTTP/1.1\nHost: localhost\n{header}")
    assert status(answer) == 401


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [""],
        ["Bearer"],
        ["Bearer "],
        ["Bearer sk-"],
        [key_of("a")],
        [f"Basic {key_of('a')}"],
        [f"Token {key_of('a')}"],
        [f"Bearer{key_of('a')}"],
        [f"Bearer {key_of('a')}x"],
        [f"Bearer {key_of('a')[:-1]}"],
        [f"Bearer {key_of('a').upper()}"],
        [f"Bearer {key_of('a')},{key_of('a')}"],
        [f"Bearer {key_of('a')} {key_of('a')}"],
        [f"Bearer {sha256_of(key_of('a'))}"],
        ["Bearer sk-expired"],
        [f"Bearer {'x' * 30_000}"],
        ["Bearer \xff\xfe"],
        [f"Bearer {key_of('a')}", f"Bearer {key_of('a')}"],
        ["Bearer wrong", f"Bearer {key_of('a')}"],
    ],
)
async def test_what_is_no_live_key_is_refused_and_not_repeated(
    guarded: LiveService, headers: list[str]
) -> None:
    lines = "".join(f"\nAuthorization: {header}" for header in headers)
    answer = await raw(guarded, f"GET {HIDDEN} HTTP/1.1\nHost: localhost{lines}")
    assert status(answer) == 401
    assert b"www-authenticate: Bearer" in answer


def test_a_refusal_shows_no_key(client: httpx.Client) -> None:
    answer = client.get(HIDDEN, headers={"authorization": "Bearer sk-mistyped"})
    error = refusal(answer, 401)
    assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")
    assert "mistyped" not in answer.text


@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "BEARER  {} "])
async def test_a_live_key_lets_in_however_its_scheme_is_written(
    guarded: LiveService, form: str
) -> None:
    header = form.format(key_of("a"))
    answer = await raw(guarded, f"GET {HIDDEN} HTTP/1.1\nHost: any\nAuthorization: {header}")
    assert status(answer) == 200


PLAIN, BEARER = f"x-api-key: {key_of('a')}", f"Authorization: Bearer {key_of('a')}"


@pytest.mark.parametrize("lines", [[PLAIN], [PLAIN, BEARER]])
async def test_anthropics_header_lets_in_too(guarded: LiveService, lines: list[str]) -> None:
    answer = await raw(guarded, "\n".join([f"GET {HIDDEN} HTTP/1.1\nHost: any", *lines]))
    assert status(answer) == 200


@pytest.mark.parametrize(
    "lines",
    [
        ["x-api-key: "],
        [f"x-api-key: Bearer {key_of('a')}"],
        ["x-api-key: sk-expired"],
        [PLAIN, PLAIN],
        [PLAIN, "Authorization: Bearer wrong"],
        [PLAIN, f"Authorization: Basic {key_of('a')}"],
        ["x-api-key: wrong", BEARER],
        [f"x-api-key: {key_of('old')}", BEARER],
    ],
)
async def test_two_keys_that_differ_are_none(guarded: LiveService, lines: list[str]) -> None:
    answer = await raw(guarded, "\n".join([f"GET {HIDDEN} HTTP/1.1\nHost: any", *lines]))
    assert status(answer) == 401


async def test_who_has_no_key_is_refused_before_sending_a_body(guarded: LiveService) -> None:
    head = "POST /v1/generate HTTP/1.1\nHost: x\nContent-Length: 1000000"
    assert status(await raw(guarded, head, b"{")) == 401


def test_without_keys_any_key_is_as_good_as_none(service: LiveService) -> None:
    for headers in ({}, bearer("nobody"), {"authorization": "Basic x"}):
        assert httpx.get(service.url + HIDDEN, headers=headers).status_code == 200


async def test_refusals_are_counted(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", entry("a"))
    with LiveService(tenants={"keys": keys}) as live:
        async with live.client() as client:
            for _ in range(3):
                assert (await client.get(HIDDEN)).status_code == 401
        # The client may have the answer before the request is counted.
        await eventually(lambda: live.outcomes() == {"refused": 3})


async def test_keys_made_and_revoked_by_command_take_effect_while_serving(tmp_path: Path) -> None:
    keys = tmp_path / "keys.yaml"

    def command(*arguments: str) -> str:
        result = CliRunner().invoke(command_line, ["keys", *arguments, "--keys", str(keys)])
        assert result.exit_code == 0, result.stderr
        return result.stdout.strip()

    first = command("create", "acme")
    with LiveService(tenants={"keys": keys}) as live, httpx.Client(base_url=live.url) as client:

        def lets_in(key: str) -> bool:
            headers = {"authorization": f"Bearer {key}"}
            return client.get(HIDDEN, headers=headers).status_code == 200

        assert lets_in(first)
        second = command("create", "acme")
        await eventually(lambda: lets_in(second))
        assert lets_in(first)
        command("revoke", sha256_of(first)[:12])
        await eventually(lambda: not lets_in(first))
        assert lets_in(second)
        assert live.value("inference_key_reloads_total", outcome="accepted") == 2
