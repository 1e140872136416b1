"""Callers that are refused: pages of other sites, host names not allowed, other machines."""

from collections.abc import Sequence
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.datastructures import Headers

from loadtests.processes import eventually
from service.errors import Forbidden
from service.http.auth import AllowedHosts, from_loopback
from service.http.ops import create_ops_app
from service.runtime.parts import Plugin
from service.runtime.status import Phase, Status
from service.settings.tree import HttpSettings
from tests.answers import error_of, refusal
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

FOREIGN: list[dict[str, str]] = [
    {"host": "rebound.evil.example:8001"},
    {"host": "127.0.0.1.evil.example"},
    {"origin": "https://evil.example"},
    {"origin": "http://localhost.evil.example"},
    {"origin": "http://127.0.0.1.evil.example"},
    {"origin": "http://192.168.0.9:3000"},
    {"origin": "null"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
    {"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors", "sec-fetch-dest": "document"},
]
CONTROL = ("/drain", "/adapters/reload", "/act")
TOKEN = "a-token-of-some-length"


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1:8001", "10.1.2.3", "[::1]:8001", "localhost", "service:8001", "LocalHost."),
        *("host.docker.internal:8000", "Gateway.Docker.internal", "host.containers.internal"),
    ],
)
def test_addresses_and_names_without_a_dot_are_served(host: str) -> None:
    AllowedHosts([]).check(Headers({"host": host, "sec-fetch-site": "same-origin"}))
    AllowedHosts([]).check(Headers({"host": host, "origin": f"http://{host}"}))


@pytest.mark.parametrize(
    ("listed", "host", "served"),
    [
        ("ops.example.com", "OPS.example.com:80", True),
        ("ops.example.com", "x.ops.example.com", False),
        ("*.example.com", "a.b.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("*", "evil.example", True),
    ],
)
def test_other_names_are_served_where_they_are_listed(listed: str, host: str, served: bool) -> None:
    hosts = AllowedHosts([listed])
    if served:
        hosts.check(Headers({"host": host}))
    else:
        with pytest.raises(Forbidden, match=r"listed in http\.allowed_hosts, got"):
            hosts.check(Headers({"host": host}))


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("localhost", False),
    ],
)
def test_a_caller_on_this_machine_is_known_by_its_address(address: str, local: bool) -> None:
    assert from_loopback({"client": (address, 1)}) is local
    assert not from_loopback({"client": None})


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
async def test_pages_of_other_sites_reach_nothing_without_a_key(
    service: LiveService, headers: dict[str, str]
) -> None:
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        for path in ("/metrics", "/readyz", "/openapi.json"):
            refusal_of(await client.get(f"{service.ops_url}{path}"))
        for path in CONTROL:
            refusal_of(await client.post(f"{service.ops_url}{path}", content="x"))
        for path in ("/health", "/docs", "/v1/adapters"):
            refusal(await client.get(f"{service.url}{path}"), 403)
    assert service.status.phase is Phase.READY


async def test_a_link_of_another_site_can_be_followed_but_not_posted(service: LiveService) -> None:
    link = {"sec-fetch-site": "same-site", "sec-fetch-mode": "navigate"}
    link |= {"sec-fetch-dest": "document", "accept": "text/html"}
    async with httpx.AsyncClient(trust_env=False, headers=link) as client:
        for page in (f"{service.url}/", f"{service.ops_url}/metrics"):
            assert (await client.get(page)).status_code == 200
            refusal_of(await client.get(page, headers={"host": "rebound.evil.example"}))
        for path in CONTROL:
            refusal_of(await client.post(f"{service.ops_url}{path}"))


LOCAL_PAGE = {"origin": "http://localhost:3000", "sec-fetch-site": "same-site"}


async def test_a_page_of_this_machine_may_call_but_not_operate(service: LiveService) -> None:
    async with httpx.AsyncClient(trust_env=False, headers=LOCAL_PAGE) as client:
        assert (await client.get(f"{service.url}/v1/adapters")).status_code == 200
        for path in ("/metrics", "/readyz"):
            refusal_of(await client.get(f"{service.ops_url}{path}"))
        for path in CONTROL:
            refusal_of(await client.post(f"{service.ops_url}{path}"))
    assert service.status.phase is Phase.READY


async def test_a_page_of_this_machine_may_not_call_by_the_name_of_a_proxy() -> None:
    with LiveService(http=HttpSettings(allowed_hosts=("llm.example.com",))) as live:
        async with live.client() as client:
            named = LOCAL_PAGE | {"host": "llm.example.com"}
            assert refusal(await client.get("/v1/adapters", headers=named), 403)
            assert (await client.get("/v1/adapters", headers=LOCAL_PAGE)).status_code == 200


async def test_a_key_is_enough_under_any_name(tmp_path: Any) -> None:
    keys = write_keys(tmp_path / "keys", entry("a"))
    headers = {"host": "llm.example.com", "origin": "https://app.example.com"} | bearer("a")
    with LiveService(tenants={"keys": keys}) as live:
        async with live.client() as client:
            assert (await client.get("/v1/adapters", headers=headers)).status_code == 200


class Acting(Plugin):
    """A plugin with a route that acts."""

    def add_admin_routes(self, app: FastAPI, may_control: Sequence[Any]) -> None:
        app.post("/act", dependencies=may_control)(lambda: "done")


def operator(
    address: str, headers: dict[str, str], token: str | None = None
) -> tuple[Status, httpx.AsyncClient]:
    """A status and a client of its admin port that calls from this address."""
    status = Status()
    settings = HttpSettings(control_token=token)
    app = create_ops_app(status, CollectorRegistry(), settings, [Acting()])
    transport = httpx.ASGITransport(app, client=(address, 1))
    return status, httpx.AsyncClient(
        transport=transport, base_url="http://10.0.0.9", headers=headers
    )


@pytest.mark.parametrize(
    ("address", "token", "authorization", "may"),
    [
        ("127.0.0.1", None, "", True),
        ("127.0.0.1", None, "Bearer anything", True),
        ("10.0.0.1", None, "", False),
        ("10.0.0.1", None, f"Bearer {TOKEN}", False),
        ("10.0.0.1", TOKEN, f"Bearer {TOKEN}", True),
        ("10.0.0.1", TOKEN, f"bearer  {TOKEN}", True),
        ("10.0.0.1", TOKEN, f"Bearer {TOKEN}x", False),
        ("10.0.0.1", TOKEN, f"Basic {TOKEN}", False),
        ("127.0.0.1", TOKEN, "", False),
    ],
)
async def test_control_wants_the_token_or_without_one_this_machine(
    address: str, token: str | None, authorization: str, may: bool
) -> None:
    asked: list[bool] = []
    status, client = operator(address, {"authorization": authorization}, token)
    status.drain = asked.append
    async with client:
        answers = [await client.post(path) for path in CONTROL]
        answers.append(await client.put("/adapters/a", json={"source": "a"}))
        answers.append(await client.delete("/adapters/a"))
        assert (await client.get("/metrics")).status_code == 200
    assert [answer.status_code for answer in answers] == (
        [202, 503, 200, 503, 503] if may else [403] * 5
    )
    assert asked == ([True] if may else [])
    if not may:
        assert {error_of(answer.json())["code"] for answer in answers} == {"control_refused"}
        assert TOKEN not in answers[0].text


async def test_an_address_in_a_header_is_not_the_callers(service: LiveService) -> None:
    headers = {"x-forwarded-for": "10.0.0.1"}
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{service.ops_url}/adapters/reload", headers=headers)
    assert answer.status_code == 200


async def test_a_drain_from_this_machine_ends_the_service() -> None:
    with LiveService(drain={"lame_duck_s": 0, "budget_s": 0}) as live:
        async with httpx.AsyncClient(trust_env=False) as client:
            assert (await client.post(f"{live.ops_url}/drain")).status_code == 202
        await eventually(lambda: live.status.phase is Phase.STOPPING)


def refusal_of(answer: httpx.Response) -> None:
    """Check the refusal of an operations route, which has no request id in its head."""
    assert answer.status_code == 403
    assert error_of(answer.json())["code"] in ("host_not_allowed", "cross_site")
