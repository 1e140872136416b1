"""The first page: HTML for a browser, JSON for a program."""

import base64
import hashlib
import json
import re
import shlex
from html import unescape
from pathlib import Path

import httpx
import pytest

from service.runtime.parts import plugin_types
from service.settings.tree import HttpSettings
from tests.live_service import LiveService
from tools.keys import bearer, entry, write_keys

CONSOLE = ["console"] if "console" in plugin_types() else []
"""The console's link, where it is installed."""
BROWSER = {"accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}


def page_of(live: LiveService, **headers: str) -> str:
    answer = httpx.get(live.url, headers=BROWSER | headers)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def links_in(page: str) -> list[str]:
    return re.findall(r'<a href="([^"]+)"', page)


def command_in(page: str) -> list[str]:
    """The words of the command that the page shows."""
    found = re.search(r"<pre><code>(.*?)</code></pre>", page, re.DOTALL)
    assert found is not None
    return shlex.split(unescape(found[1]).replace("\\\n", ""))


def body_of(command: list[str]) -> dict[str, object]:
    body: dict[str, object] = json.loads(command[command.index("-d") + 1])
    return body


@pytest.mark.parametrize("accept", ["*/*", "application/json", "text/html;q=0, */*", ""])
async def test_a_program_gets_json(client: httpx.AsyncClient, accept: str) -> None:
    answer = await client.get("/", headers={"accept": accept})
    told = answer.json()
    assert (answer.status_code, told.pop("service")) == (200, "llm-service")
    assert told.pop("version")
    assert told.keys() == {"docs", "openapi", "models"}
    for path in told.values():
        assert (await client.get(path)).status_code == 200


def test_a_person_gets_links_that_work_and_a_command_that_does(service: LiveService) -> None:
    page = page_of(service)
    links = [link for link in links_in(page) if "//" not in link]
    assert links == [*CONSOLE, "docs"]
    for link in links:
        assert httpx.get(f"{service.url}/{link}").status_code == 200
    curl, address, *rest = command_in(page)
    assert (curl, address) == ("curl", f"{service.url}/v1/chat/completions")
    assert rest[:2] == ["-H", "Content-Type: application/json"]
    answer = httpx.post(address, json=body_of(rest))
    assert answer.json()["choices"]
    assert answer.json()["model"] == "fake"


def test_the_page_has_no_script_and_only_its_own_style(service: LiveService) -> None:
    answer = httpx.get(service.url, headers=BROWSER)
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    policies = answer.headers.get_list("content-security-policy")
    assert f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; " in policies[-1]
    assert "<script" not in answer.text
    assert "http-equiv" not in answer.text


def test_with_keys_it_needs_none_and_names_nothing(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", entry("a"))
    with LiveService(tenants={"keys": keys}) as live:
        for headers in ({}, bearer("a")):
            page = page_of(live, **headers)
            assert "fake" not in page
            assert command_in(page)[1:] == [
                f"{live.url}/v1/models",
                "-H",
                "Authorization: Bearer $LLM_SERVICE_KEY",
            ]


def test_pages_that_are_off_have_no_link() -> None:
    with LiveService(http=HttpSettings(console=False)) as live:
        assert [link for link in links_in(page_of(live)) if "console" in link] == []


@pytest.mark.parametrize(
    ("http", "admin"),
    [
        ({"ops_port": 8001}, [*CONSOLE, "metrics"]),
        ({"ops_port": 0}, []),
        ({"ops_host": "0.0.0.0"}, []),
    ],
)
def test_the_admin_port_is_linked_where_the_browser_reaches_it(
    http: dict[str, object], admin: list[str]
) -> None:
    with LiveService(http=HttpSettings(allowed_hosts=("llm.example.com",), **http)) as live:
        for host, reached in (("localhost:9", admin), ("llm.example.com", [])):
            links = [link for link in links_in(page_of(live, host=host)) if "//" in link]
            assert links == [f"http://localhost:8001/{name}" for name in reached]


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("llm.example.com", "https://llm.example.com"),
        ("llm.example.com:80", "http://llm.example.com:80"),
        ("[::1]:7", "http://[::1]:7"),
        ("localhost", "http://localhost"),
    ],
)
def test_the_address_is_that_by_which_the_client_came(
    tmp_path: Path, host: str, address: str
) -> None:
    keys = write_keys(tmp_path / "keys.yaml", entry("a"))
    with LiveService(tenants={"keys": keys}) as live:
        assert command_in(page_of(live, host=host))[1] == f"{address}/v1/models"


def test_encoders_alone_are_asked_at_their_routes() -> None:
    with LiveService(model=None, encoders=[{"name": "embed", "path": "unused"}]) as live:
        command = command_in(page_of(live))
        assert httpx.post(command[1], json=body_of(command)).json()["data"]
