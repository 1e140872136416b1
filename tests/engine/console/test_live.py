"""The live view: what the service does, its releases and its batches."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from loadtests.processes import wait_until
from tests.engine.console.conftest import CLASSIFIER, SECONDS, TENANT, Watched, serious
from tests.engine.console.corpus import MARKUP
from tests.served.server import Server
from tools.keys import bearer

pytestmark = pytest.mark.browser

PHONE = 360


@pytest.fixture
def live(chromium: Browser, server: Server) -> Iterator[Watched]:
    """The live view in the dark, on the width of a phone."""
    context = chromium.new_context(viewport={"width": PHONE, "height": 780}, color_scheme="dark")
    context.set_default_timeout(1000 * SECONDS)
    expect.set_options(timeout=1000 * SECONDS)
    live = Watched(context.new_page(), server.ops)
    live.page.goto(f"{server.ops}/console")
    expect(live.page.locator("#status")).to_have_text("ready")
    yield live
    assert live.page.evaluate("document.documentElement.scrollWidth") == PHONE
    assert serious(live.page) == []
    context.close()
    assert live.wrong == []


def classify(server: Server) -> None:
    body = {"model": CLASSIFIER, "input": "A dull film."}
    server.post("/v1/classify", body, headers=bearer(TENANT)).raise_for_status()


def rolled_back(server: Server) -> bool:
    (release,) = httpx.get(f"{server.ops}/releases", timeout=SECONDS).json()["releases"]
    with ThreadPoolExecutor(4) as pool:
        [*pool.map(lambda _: classify(server), range(12))]
    return bool(release["state"] == "rolled_back")


def test_it_shows_what_the_service_does(live: Watched, server: Server) -> None:
    body = {"model": "tiny", "prompt": "Hi", "max_tokens": 200}
    server.post("/v1/generate", body, headers=bearer(TENANT)).raise_for_status()
    page = live.page
    expect(page.locator("figure")).to_have_count(7)
    expect(page.locator("#tenants")).to_contain_text("100 %")
    expect(page.locator("#engines")).to_contain_text("tiny")
    expect(page.locator("#adapters")).to_contain_text(re.compile(f"{CLASSIFIER}1.0.0unprovennone"))
    steps = page.get_by_role("img", name="Steps a second").locator("path")
    expect(steps).to_have_attribute("d", re.compile(r" (?!90\.0)[\d.]+"))  # 90 is the ground


def test_a_release_shows_its_evidence_and_markup_stays_text(live: Watched, server: Server) -> None:
    wait_until(lambda: rolled_back(server), SECONDS, "the rollback")
    releases = live.page.locator("#releases")
    expect(releases.locator(".pill")).to_have_text("rolled back")
    expect(releases).to_contain_text(f"{CLASSIFIER}@1.0.0 → {CLASSIFIER}@1.1.0")
    expect(releases.locator("td").first).to_have_text(re.compile("label "))
    statistic, bound = releases.locator("td").nth(2).inner_text().split(" of ")
    assert float(statistic) >= float(bound)
    drawn = live.page.locator("main *").evaluate_all("all => all.map(e => e.tagName)")
    assert not {*drawn} & {"IMG", "SCRIPT", "IFRAME", "A", "STYLE"}
    assert any(name in releases.inner_text() for name in (*MARKUP, "positive", "negative"))


def test_a_release_names_the_tenants_that_got_the_old_version_back(
    chromium: Browser, server: Server
) -> None:
    with httpx.stream("GET", f"{server.ops}/console/live", timeout=SECONDS) as live:
        told = next(each for each in live.iter_lines() if each.startswith("data: "))
    found = json.loads(told.removeprefix("data: "))
    found["releases"][0]["spared"] = ["ann", "bob"]
    page: Page = chromium.new_page()
    said = f"data: {json.dumps(found)}\n\n"
    page.route(
        "**/console/live",
        lambda route: route.fulfill(content_type="text/event-stream", body=said),
    )
    page.goto(f"{server.ops}/console")
    expect(page.locator("#releases")).to_contain_text("the old version again for ann, bob")
    page.close()


def test_batches_are_shown_with_their_progress(live: Watched, server: Server) -> None:
    url, headers = f"{server.url}/v1", bearer(TENANT)
    file = httpx.get(f"{url}/files?purpose=batch", headers=headers).json()["data"][0]["id"]
    body = {"input_file_id": file, "endpoint": "/v1/generate", "completion_window": "24h"}
    batch = httpx.post(f"{url}/batches", json=body, headers=headers).json()["id"]
    row = live.page.locator("#batches tr").filter(has_text=batch)
    expect(row).to_contain_text(f"{TENANT}completed")
    expect(row).to_contain_text("1 of 1")


def test_a_pause_holds_the_page_and_focus_stays_when_it_goes_on(live: Watched) -> None:
    page = live.page
    page.get_by_role("button", name="Pause").click()
    held = page.locator("#charts figure").first.element_handle()
    table = page.locator("#engines .scroll")
    table.focus()
    page.wait_for_timeout(7000)  # longer than an interval
    assert held.evaluate("figure => figure.isConnected")
    page.get_by_role("button", name="Go on").press("Enter")
    table.focus()
    before = table.element_handle()
    page.wait_for_function("table => !table.isConnected", arg=before)
    expect(page.locator("#engines .scroll")).to_be_focused()


def test_a_hidden_page_follows_nothing(live: Watched) -> None:
    def becomes(hidden: str) -> None:
        page.evaluate(
            f"Object.defineProperty(document, 'hidden', {{ value: {hidden}, configurable: true }});"
            "document.dispatchEvent(new Event('visibilitychange'))"
        )

    page = live.page
    with page.expect_event("requestfailed"):
        becomes("true")
    with page.expect_request("**/console/live"):
        becomes("false")


def test_a_service_that_is_away_is_said_and_found_again(chromium: Browser, server: Server) -> None:
    page: Page = chromium.new_page()
    page.route("**/console/live", lambda route: route.abort())
    page.goto(f"{server.ops}/console")
    expect(page.locator("#status")).to_have_text("unreachable")
    expect(page.get_by_role("alert")).to_have_text("The service cannot be reached.")
    page.unroute("**/console/live")
    expect(page.locator("#status")).to_have_text("ready")
    expect(page.locator("#problem")).to_be_hidden()
    page.close()
