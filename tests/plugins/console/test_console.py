"""The console's files: small, of this server alone, and under a strict policy."""

import re
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest

from service.plugins.console.assets import FOLDER, HEADERS, LIVE_PAGE, PAGE, PARTS
from service.settings.tree import HttpSettings
from tests.answers import refusal
from tests.live_service import LiveService
from tools.keys import entry, write_keys

MOST_BYTES = 100_000
PATHS = ("/console", *(f"/console/{name}" for name in PARTS))
POLICY = "content-security-policy"


def text_of(name: str) -> str:
    return (FOLDER / name).read_text(encoding="utf-8")


SCRIPTS = {name: text_of(name) for name in PARTS if name.endswith(".js")}


class Tags(HTMLParser):
    """The tags of a page with their attributes, and the text within scripts and styles."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.inline = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style"):
            self.inline += data.strip()


PAGES = {name: Tags(text_of(name)) for name in (PAGE, LIVE_PAGE)}


def has_the_policy(answer: httpx.Response) -> bool:
    """Whether an answer has the headers of the console's files; other policies may be beside it."""
    others = HEADERS.items() - {(POLICY, HEADERS[POLICY])}
    policies = answer.headers.get_list(POLICY)
    return HEADERS[POLICY] in policies and others <= dict(answer.headers).items()


async def test_every_file_is_served_with_the_policy(client: httpx.AsyncClient) -> None:
    for path in PATHS:
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.content
        assert has_the_policy(answer)
        kind = {"css": "text/css", "js": "text/javascript"}.get(path.rpartition(".")[2])
        assert answer.headers["content-type"] == f"{kind or 'text/html'}; charset=utf-8"
        assert (await client.head(path)).status_code == 200


def test_the_policy_lets_in_nothing_but_files_and_answers_of_this_server() -> None:
    rules = dict(rule.split(" ", 1) for rule in HEADERS[POLICY].split("; "))
    assert rules == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "img-src": "'self' data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }


async def test_a_browser_that_has_a_file_is_not_sent_it_again(client: httpx.AsyncClient) -> None:
    first = await client.get("/console/main.js")
    again = await client.get("/console/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert has_the_policy(again)


@pytest.mark.parametrize("name", ["index.html", "none.js", "..%2F__init__", "%2e%2e/assets"])
async def test_nothing_else_is_served(client: httpx.AsyncClient, name: str) -> None:
    refusal(await client.get(f"/console/{name}"), 404)


def test_with_keys_the_files_need_none_and_the_rest_does(tmp_path: Path) -> None:
    keys = write_keys(tmp_path / "keys.yaml", entry("a"))
    with LiveService(tenants={"keys": keys}) as live:
        assert [httpx.get(live.url + path).status_code for path in PATHS] == [200] * len(PATHS)
        refusal(httpx.get(live.url + "/console/none.js"), 401)
        refusal(httpx.get(live.url + "/v1/adapters"), 401)


def test_the_setting_switches_it_off() -> None:
    with LiveService(http=HttpSettings(console=False)) as live:
        for path in PATHS:
            refusal(httpx.get(live.url + path), 404)
        assert httpx.get(live.url + "/docs").status_code == 200


def test_it_is_light() -> None:
    assert sum(len(text_of(name).encode()) for name in (PAGE, LIVE_PAGE, *PARTS)) < MOST_BYTES


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_no_page_has_an_inline_script_style_or_handler(page: Tags) -> None:
    assert page.inline == ""
    for tag, attributes in page.found:
        assert not [name for name in attributes if name.startswith("on") or name == "style"], tag
        assert tag != "script" or attributes["src"]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_every_reference_of_a_page_is_to_one_of_its_parts(page: Tags) -> None:
    references = [
        value
        for _, attributes in page.found
        for name, value in attributes.items()
        if value and name in ("src", "href") and not value.startswith(("#", "data:"))
    ]
    assert references
    assert {f"/{reference}" for reference in references} <= {*PATHS}


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES.keys())
def test_every_field_of_a_page_has_a_label(page: Tags) -> None:
    labelled = {attributes.get("for") for tag, attributes in page.found if tag == "label"}
    fields = [
        attributes["id"]
        for tag, attributes in page.found
        if tag in ("select", "textarea", "input")
        and attributes.get("type") not in ("radio", "checkbox")  # within their labels
    ]
    assert {*fields} <= labelled


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_of_text_or_stores_anything(name: str) -> None:
    banned = (
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|srcdoc|\beval\b"
        r"|new Function|createContextualFragment|localStorage|sessionStorage|indexedDB"
        r"|document\.cookie|https?://(?!www\.w3\.org/2000/svg)"
    )
    assert re.findall(banned, SCRIPTS[name]) == []


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_import_of_a_script_is_one_of_the_parts(name: str) -> None:
    imported = re.findall(r"""(?:from|import)\s+["']\./([^"']+)["']""", SCRIPTS[name])
    assert {*imported} <= {*PARTS}
    assert len(imported) == len(re.findall(r"^import\b", SCRIPTS[name], re.MULTILINE))
