"""Pictures of the console in docs/images, taken in headless Chromium: `make console-pictures`.

Serves the local configuration with two tenants, uses every view as a person would, and overloads
the service for a minute before the picture of the live view.
"""

import sys
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

from service.settings.load import load_settings
from tools.browser import launch_options
from tools.served.keys import bearer, entry, key_of, write_keys
from tools.served.server import PATIENT, Server, running_server

_CONFIG = Path("deploy/local/config.yaml")
_IMAGES = Path("docs/images")
_SECONDS = 120
_LOAD_SECONDS = 120
_SHARES = {"research": 3, "support": 1}
"""Tenants and their weights."""

_DESK: Any = {"width": 1120, "height": 620}
_PHONE: Any = {"width": 360, "height": 780}
_TEXTS = (
    "A dull film that never ends.",
    "I loved every minute of it.",
    "The plot is thin, the actors are wonderful.",
    "It was on television last night.",
)


def main() -> int:
    """Take all pictures."""
    expect.set_options(timeout=1000 * _SECONDS)
    with tempfile.TemporaryDirectory() as folder:
        with (
            running_server(Path(folder), _configuration(Path(folder))) as server,
            _browser() as browser,
        ):
            _desk(browser, server)
            _phone(browser, server)
            with _overload(server):
                _live(browser, server)
    return 0


def _configuration(folder: Path) -> dict[str, Any]:
    tenants = [
        entry(name, weight=weight, quotas={"tokens_per_day": 1_000_000})
        for name, weight in _SHARES.items()
    ]
    config: dict[str, Any] = load_settings(_CONFIG).model_dump(mode="json", exclude_unset=True)
    return config | {
        "tenants": {"keys": str(write_keys(folder / "keys", *tenants))},
        "usage": {"path": str(folder / "usage")},
        "batches": {"path": str(folder / "batches")},
        "golden_timeout_s": PATIENT["golden_timeout_s"],
    }


@contextmanager
def _browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options())
        yield browser
        browser.close()


def _opened(browser: Browser, url: str, **options: Any) -> Page:
    page = browser.new_context(**options).new_page()
    page.goto(f"{url}/console")
    return page


def _with_key(page: Page) -> Page:
    page.get_by_label("Key", exact=True).fill(key_of("research"))
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#key-dialog")).to_be_hidden()
    return page


def _taken(page: Page, name: str) -> None:
    page.screenshot(path=_IMAGES / f"console-{name}.png")
    print(f"{_IMAGES}/console-{name}.png", flush=True)


def _desk(browser: Browser, server: Server) -> None:
    page = _with_key(_opened(browser, server.url, viewport=_DESK, color_scheme="light"))
    _generated(page)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)  # what is shown for a token is hidden by a scroll
    page.locator("#answer-0 .token").filter(has_text="process").hover()
    expect(page.get_by_role("tooltip")).to_be_visible()
    _taken(page, "generate")
    page.get_by_role("link", name="Classify").click()
    page.locator("#classifier").select_option("sentiment")
    page.locator("#inputs").fill("\n".join(_TEXTS))
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#results > li")).to_have_count(len(_TEXTS))
    _taken(page, "classify")
    page.get_by_role("link", name="Similarity").click()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#matrix table")).to_be_visible()
    _taken(page, "similarity")
    page.get_by_role("link", name="Usage").click()
    page.wait_for_timeout(2000)  # usage is written every second
    page.get_by_role("button", name="Refresh").click()
    expect(page.locator("#usage")).to_contain_text("sentiment")
    _taken(page, "usage")


def _phone(browser: Browser, server: Server) -> None:
    page = _with_key(_opened(browser, server.url, viewport=_PHONE, color_scheme="dark"))
    _generated(page)
    page.locator("#legend").scroll_into_view_if_needed()
    page.locator("#answers").scroll_into_view_if_needed()
    _taken(page, "phone")


def _generated(page: Page) -> None:
    page.get_by_label("Temperature", exact=True).fill("0")
    page.get_by_label("Max tokens", exact=True).fill("48")
    page.locator("#prompt").fill("Why is the sky blue?")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#answers .pill")).to_have_text("cut at max tokens")


@contextmanager
def _overload(server: Server) -> Iterator[None]:
    """Have both tenants ask for more than the service can do, for as long as the block runs."""
    ended = threading.Event()

    def ask(number: int) -> None:
        tenant = [*_SHARES][number % len(_SHARES)]
        body = {"model": server.model, "prompt": "The sea is", "max_tokens": 64}
        with httpx.Client(headers=bearer(tenant), timeout=_SECONDS) as client:
            while not ended.is_set():
                client.post(f"{server.url}/v1/completions", json=body)
                ended.wait(0.2)

    with ThreadPoolExecutor(48) as threads:
        asking = threads.map(ask, range(48))
        try:
            yield
        finally:
            ended.set()
        list(asking)


def _live(browser: Browser, server: Server) -> None:
    page = _opened(browser, server.ops, viewport=_DESK | {"height": 1080}, color_scheme="dark")
    expect(page.locator("#status")).to_have_text("ready")
    page.wait_for_timeout(1000 * _LOAD_SECONDS)
    _taken(page, "live")


if __name__ == "__main__":
    sys.exit(main())
