"""The key, and the view of the caller's own usage, limits, batches and files."""

import re

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.engine.console.conftest import TENANT, Watched, give_key
from tests.engine.console.corpus import MARKUP
from tests.served.server import Server
from tools.keys import bearer, key_of

pytestmark = pytest.mark.browser


def test_a_key_that_is_not_known_is_asked_for_again(watched: Watched) -> None:
    page = watched.page
    page.get_by_label("Key", exact=True).fill("sk-wrong")
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#key-problem")).to_have_text("The service knows no such key.")
    give_key(page)
    expect(page.get_by_role("dialog")).to_be_hidden()


def test_the_key_is_kept_in_memory_only(watched: Watched) -> None:
    page = watched.page
    give_key(page)
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert kept == '[{},{},""]'
    assert key_of(TENANT) not in page.content()
    assert page.locator("#key").input_value() == ""
    assert not [asked.url for asked in watched.requests if key_of(TENANT) in asked.url]
    page.reload()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_usage_limits_and_files_are_the_callers_own(page: Page, server: Server) -> None:
    body = {"model": "tiny", "prompt": "Hi", "max_tokens": 3}
    httpx.post(
        f"{server.url}/v1/generate", json=body, headers=bearer(TENANT), timeout=120
    ).raise_for_status()
    page.get_by_role("link", name="Usage").click()
    expect(page.locator("#limits")).to_contain_text(re.compile(r"tokens.*of 10,000,000 left"))
    expect(page.locator("#files tr td:first-child")).to_have_count(len(MARKUP))
    assert {*page.locator("#files tr td:first-child").all_inner_texts()} <= {
        *MARKUP,
        *(name.replace('"', "%22") for name in MARKUP),
        *(name.rpartition("/")[2] for name in MARKUP),
    }
    expect(page.locator("#batches")).to_have_text("No batches.")
    for _ in range(30):  # usage is written every second
        if page.locator("#usage").get_by_text("tiny").count():
            break
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#usage")).to_contain_text("tiny")


def test_a_batch_is_listed_with_its_progress(page: Page, server: Server) -> None:
    url, headers = f"{server.url}/v1", bearer(TENANT)
    file = httpx.get(f"{url}/files", headers=headers).json()["data"][0]["id"]
    body = {"input_file_id": file, "endpoint": "/v1/generate", "completion_window": "24h"}
    batch = httpx.post(f"{url}/batches", json=body, headers=headers).json()["id"]
    page.get_by_role("link", name="Usage").click()
    for _ in range(240):
        if page.locator("#batches").get_by_text("completed").count():
            break
        page.wait_for_timeout(500)
        page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#batches")).to_contain_text(re.compile(f"{batch}completed1 of 1"))


def test_a_file_is_downloaded_with_the_key(page: Page) -> None:
    page.get_by_role("link", name="Usage").click()
    with page.expect_download() as download:
        page.locator("#files button").last.click()
    assert download.value.path().read_text().startswith('{"custom_id": "1"')
