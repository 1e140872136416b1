"""Generating text in the console."""

import json
import re
import subprocess

import pytest
from playwright.sync_api import Page, expect

from tests.engine.console.conftest import TENANT, generated
from tests.engine.console.corpus import MARKUP
from tests.served.server import Server
from tools.keys import key_of
from tools.programs import program

pytestmark = pytest.mark.browser


def ask(page: Page, text: str, **fields: str) -> None:
    """Fill the form and run it."""
    page.get_by_label("Message" if page.get_by_label("Chat").is_checked() else "Prompt").last.fill(
        text
    )
    for field, value in {"Max tokens": "16", "Temperature": "0", **fields}.items():
        page.get_by_label(field, exact=True).fill(value)
    page.get_by_role("button", name="Run").click()


def shades(page: Page) -> list[str]:
    return [
        re.sub("token ", "", token.get_attribute("class") or "")
        for token in page.locator("#answer-0 .token").all()
    ]


@pytest.mark.parametrize("mode", ["Chat", "Prompt"])
def test_an_answer_streams_as_tokens_coloured_by_probability(page: Page, mode: str) -> None:
    page.get_by_label(mode, exact=True).check()
    ask(page, "The sea is")
    expect(page.locator("#answers .pill")).to_have_text("cut at max tokens")
    assert 1 < len(shades(page)) <= 16
    assert {*shades(page)} <= {"p0", "p1", "p2", "p3", "p4"}
    expect(page.locator(".figures")).to_contain_text(
        re.compile(r"\+ 16 tokens · first after \d+ ms · [\d.]+ tokens/s · [\d.]+ % a token")
    )


def test_a_token_under_the_pointer_shows_its_alternatives(page: Page) -> None:
    ask(page, "The sea is", Temperature="2")  # the likeliest tokens of this model are line breaks
    expect(page.locator("#answers .pill")).to_have_text("cut at max tokens")
    page.locator("#answer-0 .token").filter(has_text=re.compile(r"\w")).first.hover()
    detail = page.get_by_role("tooltip")
    expect(detail.locator("p.chosen")).to_have_count(1)
    shares = [float(text.split()[-2]) for text in detail.locator("p").all_inner_texts()]
    assert len(shares) > 2
    assert shares[1:] == sorted(shares[1:], reverse=True)
    page.locator("h1 >> visible=true").hover()
    expect(detail).to_be_hidden()


def test_the_arrow_keys_move_among_the_tokens(page: Page) -> None:
    ask(page, "The sea is")
    expect(page.locator("#answers .pill")).to_have_text("cut at max tokens")
    page.locator("#copy-python").focus()
    page.keyboard.press("Tab")
    tokens = page.locator("#answer-0 .token")
    expect(page.get_by_role("listbox")).to_be_focused()
    expect(tokens.first).to_have_attribute("aria-selected", "true")
    for key, place in (("ArrowRight", 1), ("ArrowRight", 2), ("ArrowLeft", 1), ("Home", 0)):
        page.keyboard.press(key)
        expect(tokens.nth(place)).to_have_attribute("aria-selected", "true")
        expect(page.get_by_role("tooltip")).to_be_visible()
    assert re.search(r", [\d.]+ %$", tokens.first.get_attribute("aria-label") or "")
    page.keyboard.press("Escape")
    expect(page.get_by_role("tooltip")).to_be_hidden()


@pytest.mark.parametrize("text", MARKUP)
def test_what_the_model_writes_stays_text(page: Page, text: str) -> None:
    page.get_by_text("Structured output").click()
    schema = json.dumps({"enum": [text]})
    ask(page, text, **{"Max tokens": "200", "JSON schema of the answer optional": schema})
    generated(page)
    answer = page.locator("#answer-0")
    assert json.loads(answer.inner_text()) == text
    assert {*answer.locator("*").evaluate_all("all => all.map(e => e.tagName)")} == {"SPAN"}


def test_a_schema_that_is_no_json_is_named_before_anything_is_sent(page: Page) -> None:
    page.get_by_text("Structured output").click()
    ask(page, "x", **{"JSON schema of the answer optional": "{"})
    expect(page.locator("#generate-problem")).to_contain_text("JSON schema: ")
    expect(page.locator("#answers article")).to_have_count(0)


def test_a_refusal_is_shown_in_the_services_words(page: Page) -> None:
    page.get_by_text("Structured output").click()
    ask(page, "x", **{"JSON schema of the answer optional": '{"type": "nonsense"}'})
    expect(page.locator("#answers .pill")).to_have_text("failed")
    expect(page.locator("#answers .problem")).to_contain_text("not a valid JSON schema at type")


def test_two_answers_stand_side_by_side(page: Page) -> None:
    page.get_by_label("Compare with").select_option("tiny")
    ask(page, "The sea is")
    expect(page.locator("#answers .pill")).to_have_text(["cut at max tokens"] * 2)
    first, second = (page.locator(f"#answer-{place}") for place in (0, 1))
    assert first.inner_text() == second.inner_text() != ""
    left, right = first.bounding_box(), second.bounding_box()
    assert left
    assert right
    assert left["x"] + left["width"] < right["x"]


def test_an_answer_can_be_stopped_and_asked_again(page: Page) -> None:
    ask(page, "The sea is", **{"Max tokens": "1500"})
    expect(page.locator("#answer-0 .token")).not_to_have_count(0)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#answers .pill")).to_have_text("stopped")
    expect(page.get_by_role("button", name="Stop")).to_be_disabled()
    before = page.locator("#answer-0").inner_text()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#answers .pill")).to_have_text("answering")
    page.get_by_role("button", name="Stop").click()
    after = page.locator("#answer-0").inner_text()
    both = min(len(before), len(after))
    assert before[:both] == after[:both]  # it is greedy


def test_a_request_is_copied_as_code_without_the_key(page: Page, server: Server) -> None:
    page.get_by_label("System message").fill('It\'s "short"; $HOME `id`')
    page.locator("#prompt").fill("Don't \\ say\nmore")
    copied = {}
    for name in ("curl", "Python"):
        page.get_by_role("button", name=f"Copy as {name}").click()
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        copied[name] = page.evaluate("navigator.clipboard.readText()")
        expect(page.get_by_role("button", name="Copied")).to_be_hidden()
    environment = {"LLM_SERVICE_KEY": key_of(TENANT)}
    assert not [code for code in copied.values() if key_of(TENANT) in code]
    command = copied["curl"].replace("curl ", f"{program('curl')} ", 1)
    answer = subprocess.check_output(["sh", "-c", command], env=environment, text=True)
    assert answer.startswith("data: {")
    assert answer.endswith("data: [DONE]\n\n")
    compile(copied["Python"], "copied", "exec")
    assert '"content": "Don\'t \\\\ say\\nmore"' in copied["Python"]
    assert f'base_url="{server.url}/v1"' in copied["Python"]


def test_ctrl_enter_runs(page: Page) -> None:
    page.get_by_label("Max tokens").fill("4")
    page.locator("#prompt").press("Control+Enter")
    expect(page.locator("#answers .pill")).to_have_text("cut at max tokens")


def test_screen_readers_are_told_the_whole_answer_once(page: Page) -> None:
    ask(page, "The sea is")
    expect(page.locator("#answers .pill")).to_have_text("cut at max tokens")
    said = page.locator("#said")
    expect(said).to_have_attribute("aria-live", "polite")
    expect(said).to_contain_text("Answer of tiny, cut at max tokens: ")
    assert page.locator("#answer-0").get_attribute("aria-busy") is None
