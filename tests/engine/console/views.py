"""Views of the console as its pictures show them, and the parts of them that stay in place."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from playwright.sync_api import Browser, Page, expect

from tests.served.server import Server

_DESK: Any = {"width": 1120, "height": 620}
_USAGE: Any = _DESK | {"height": 880}
_LIVE: Any = _DESK | {"height": 1560}
_PHONE: Any = {"width": 360, "height": 780}
_PATIENCE_MS = 120_000
_FRAME = ("header", ".tools")
_TEXTS = (
    "A dull film that never ends.",
    "I loved every minute of it.",
    "The plot is thin, the actors are wonderful.",
    "It was on television last night.",
)


@dataclass(frozen=True)
class Subject:
    """A server with the key to use, and an adapter of two labels to classify with."""

    server: Server
    key: str
    classifier: str


@dataclass(frozen=True)
class View:
    """A picture: its window, how it is reached, and its parts by CSS selectors.

    `places` stay where they are whatever model answers, `columns` keep their left edge and width,
    and `content` is what models, tenants and time make different.
    """

    name: str
    window: Any
    scheme: Any
    show: Callable[[Page, Subject], None]
    places: tuple[str, ...]
    columns: tuple[str, ...]
    content: tuple[str, ...]

    def opened(self, browser: Browser, subject: Subject) -> Page:
        """A new page that shows the view."""
        page = browser.new_context(
            viewport=self.window, color_scheme=self.scheme, reduced_motion="reduce"
        ).new_page()
        page.set_default_timeout(_PATIENCE_MS)
        self.show(page, subject)
        return page


def _generate(page: Page, subject: Subject) -> None:
    _answered(page, subject, 48)
    page.evaluate("scrollTo(0, 0)")
    page.wait_for_timeout(500)  # what is shown for a token is hidden by a scroll
    token = page.locator("#answer-0 .token").filter(has_text="process")
    if token.count():
        token.first.hover()
        expect(page.get_by_role("tooltip")).to_be_visible()


def _phone(page: Page, subject: Subject) -> None:
    _answered(page, subject, 160)
    expect(page.locator("#answers")).to_be_in_viewport()


def _answered(page: Page, subject: Subject, tokens: int) -> None:
    _with_key(page, subject)
    page.get_by_label("Temperature", exact=True).fill("0")
    page.get_by_label("Max tokens", exact=True).fill(str(tokens))
    page.locator("#prompt").fill("Why is the sky blue?")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#answers .pill")).to_have_text("cut at max tokens")


def _classify(page: Page, subject: Subject) -> None:
    _with_key(page, subject)
    page.get_by_role("link", name="Classify").click()
    page.locator("#classifier").select_option(subject.classifier)
    page.locator("#inputs").fill("\n".join(_TEXTS))
    page.get_by_role("button", name="Classify").click()
    expect(page.locator("#results > li")).to_have_count(len(_TEXTS))


def _similarity(page: Page, subject: Subject) -> None:
    _with_key(page, subject)
    page.get_by_role("link", name="Similarity").click()
    page.get_by_role("button", name="Compare").click()
    expect(page.locator("#matrix table")).to_be_visible()


def _usage(page: Page, subject: Subject) -> None:
    _with_key(page, subject)
    page.get_by_role("link", name="Usage").click()
    for box in ("usage", "batches", "files"):
        expect(page.locator(f"#{box} > *").first).to_be_visible()


def _live(page: Page, subject: Subject) -> None:
    page.goto(f"{subject.server.ops}/console")
    expect(page.locator("#status")).to_have_text("ready")
    expect(page.locator("figure")).to_have_count(7)


def _with_key(page: Page, subject: Subject) -> None:
    page.goto(f"{subject.server.url}/console")
    page.get_by_label("Key", exact=True).fill(subject.key)
    page.get_by_role("button", name="Use this key").click()
    expect(page.locator("#key-dialog")).to_be_hidden()


VIEWS = (
    View(
        "generate",
        _DESK,
        "light",
        _generate,
        (*_FRAME, "h1 >> visible=true", "#generate-form", "#prompt", "#max-tokens"),
        ("#generate-form .buttons", "#legend", "#answers"),
        ("#answers", "#token-detail"),
    ),
    View(
        "classify",
        _DESK,
        "light",
        _classify,
        (*_FRAME, "h1 >> visible=true", "#classify-form", "#inputs", "#classify-status"),
        ("#classify-form .buttons", "#results"),
        ("#own-labels", "#results"),
    ),
    View(
        "similarity",
        _DESK,
        "light",
        _similarity,
        (*_FRAME, "h1 >> visible=true", "#similarity-form", "#texts", "#matrix"),
        ("#similarity-form .buttons",),
        ("#matrix",),
    ),
    View(
        "usage",
        _USAGE,
        "light",
        _usage,
        (*_FRAME, "h1 >> visible=true", "#refresh", "#limits"),
        ("#usage", "#batches", "#files"),
        ("#limits", "#usage", "#batches", "#files", "#account h2"),
    ),
    View("phone", _PHONE, "dark", _phone, ("header",), ("#legend", "#answers"), ("#answers",)),
    View(
        "live",
        _LIVE,
        "dark",
        _live,
        (*_FRAME, "h1", "#charts", "figure >> nth=0", "figure >> nth=3"),
        ("figure >> nth=4", "figure >> nth=6", "#tenants", "#refusals", "#releases", "#batches"),
        ("figure svg", "figure p", "section"),
    ),
)
"""A view for each picture."""
