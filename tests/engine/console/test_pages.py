"""Each view: accessible, on a phone and in the dark, light to load, without other hosts."""

from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Response, expect

from tests.engine.console.conftest import Watched, give_key, serious
from tests.served.server import Server

pytestmark = pytest.mark.browser

VIEWS = ("generate", "classify", "similarity", "account")
PHONE: Any = {"width": 360, "height": 780}
HEAD_PX = 60
"""Height of a head of one row."""
MOST_BYTES = 100_000


def fill_views(page: Page) -> None:
    """Have an answer and results on the page."""
    page.get_by_label("Max tokens").fill("8")
    page.get_by_role("button", name="Run").click()
    expect(page.locator("#answers .pill")).to_have_text("cut at max tokens")
    page.get_by_role("link", name="Classify").click()
    page.get_by_role("button", name="Classify").click()
    texts = page.locator("#inputs").input_value().splitlines()
    expect(page.locator("#results > li")).to_have_count(len(texts))


SCHEMES: tuple[Any, ...] = ("light", "dark")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_no_view_has_a_serious_finding_of_axe(page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    fill_views(page)
    for view in VIEWS:
        page.evaluate("view => { location.hash = view; }", view)
        expect(page.locator(f"#{view}")).to_be_visible()
        assert serious(page) == [], view


def test_the_question_for_a_key_has_no_serious_finding(watched: Watched) -> None:
    expect(watched.page.get_by_role("dialog")).to_be_visible()
    assert serious(watched.page) == []


def test_every_view_fits_a_phone(page: Page) -> None:
    page.set_viewport_size(PHONE)
    fill_views(page)
    for view in VIEWS:
        page.evaluate("view => { location.hash = view; }", view)
        expect(page.locator(f"#{view}")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"], view


def test_on_a_phone_the_head_is_one_row_and_the_answer_comes_into_sight(page: Page) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.emulate_media(reduced_motion="reduce")
    head = page.locator("header").bounding_box()
    assert head is not None
    assert head["height"] < HEAD_PX
    for view, button, answer in (
        ("generate", "Run", "#answer-0"),
        ("classify", "Classify", "#results .verdict >> nth=0"),
        ("similarity", "Compare", "#matrix table"),
    ):
        page.evaluate("view => { scrollTo(0, 0); location.hash = view; }", view)
        page.get_by_role("button", name=button, exact=True).click()
        expect(page.locator(answer)).to_be_in_viewport()
        box = page.locator(answer).bounding_box()
        assert box is not None
        assert 0 <= box["y"] < 844 / 2, view


def test_the_first_page_is_accessible_and_fits_a_phone(chromium: Browser, server: Server) -> None:
    for scheme in SCHEMES:
        context = chromium.new_context(viewport=PHONE, color_scheme=scheme)
        page = context.new_page()
        page.goto(server.url)
        assert serious(page) == []
        assert page.evaluate("document.documentElement.scrollWidth") == PHONE["width"]
        page.get_by_role("link", name="Console").click()
        expect(page.get_by_label("Key", exact=True)).to_be_visible()
        context.close()


def test_the_keyboard_reaches_everything_in_order(page: Page) -> None:
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    seen = []
    for _ in range(25):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.id || document.activeElement.hash"))
    wanted = ["#generate", "#classify", "#account", "theme", "model", "second", "prompt"]
    places = [seen.index(each) for each in wanted]
    assert places == sorted(places)


def test_the_first_use_is_light(chromium: Browser, server: Server) -> None:
    context = chromium.new_context()
    page = context.new_page()
    answers: list[Response] = []
    page.on("response", lambda answer: answers.append(answer))
    page.goto(f"{server.url}/console")
    give_key(page)
    sizes = [len(each.body()) for each in answers if "/console" in each.url and each.ok]
    context.close()
    assert len(sizes) > 10
    assert sum(sizes) < MOST_BYTES
