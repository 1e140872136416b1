"""Classifying texts in the console."""

import csv
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.engine.console.corpus import FORMULAS, MARKUP

pytestmark = pytest.mark.browser


@pytest.fixture
def view(page: Page) -> Page:
    page.get_by_role("link", name="Classify").click()
    return page


def classify(page: Page, texts: tuple[str, ...], labels: tuple[str, ...] | None = None) -> None:
    """Classify by the base among labels, or by the encoder."""
    page.locator("#classifier").select_option("tiny" if labels else "topics")
    if labels:
        page.locator("#labels").fill("\n".join(labels))
    page.locator("#inputs").fill("\n".join(texts))
    page.get_by_role("button", name="Classify").click()
    expect(page.get_by_role("status").last).to_have_text(f"Done: {len(texts)} of {len(texts)}.")


def rows(page: Page, path: Path) -> list[dict[str, str]]:
    """The lines of the downloaded CSV."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Download CSV").click()
    download.value.save_as(path)
    assert path.read_bytes().startswith(b"\xef\xbb\xbf")
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def test_texts_get_their_labels_as_bars(view: Page, tmp_path: Path) -> None:
    texts = tuple(f"text {number}" for number in range(100))  # more than one request takes
    classify(view, texts, ("yes", "no"))
    results = view.locator("#results > li")
    expect(results).to_have_count(100)
    assert results.locator(".input").all_inner_texts() == [*texts]
    first = results.first
    assert {*first.locator("th").all_inner_texts()} == {"yes", "no"}
    assert first.locator(".verdict").inner_text() == first.locator("th").first.inner_text()
    read = rows(view, tmp_path / "classified.csv")
    assert [row["text"] for row in read] == [*texts]
    assert all(
        float(row["p(yes)"]) + float(row["p(no)"]) == pytest.approx(1, abs=1e-4) for row in read
    )


def test_markup_in_texts_and_labels_stays_text(view: Page) -> None:
    classify(view, MARKUP, MARKUP)
    results = view.locator("#results")
    assert results.locator(".input").all_inner_texts() == [*MARKUP]
    assert {*results.locator("li").first.locator("th").all_inner_texts()} <= {*MARKUP}
    drawn = results.locator("*").evaluate_all("all => all.map(e => e.tagName)")
    assert not {*drawn} & {"IMG", "SCRIPT", "SVG", "IFRAME", "A", "B", "STYLE"}


def test_markup_in_an_encoders_own_labels_stays_text(view: Page) -> None:
    classify(view, ("a good match",))
    expect(view.locator("#question")).to_be_hidden()
    expect(view.locator("#own-labels")).to_have_text(f"Labels: {', '.join(('sports', *MARKUP))}")
    expect(view.locator("#results th")).to_have_count(8)
    expect(view.locator("#results")).to_contain_text("and 3 more labels")


def test_no_cell_of_the_csv_is_a_formula(view: Page, tmp_path: Path) -> None:
    classify(view, FORMULAS, FORMULAS)
    read = rows(view, tmp_path / "classified.csv")
    assert [row["text"] for row in read] == [f"'{text}" for text in FORMULAS]
    cells = [cell for row in read for cell in (row["text"], row["label"])]
    assert all(cell.startswith("'") for cell in cells)


def test_below_the_threshold_it_abstains(view: Page) -> None:
    view.locator("#threshold").fill("1")
    classify(view, ("a", "b"), ("yes", "no"))
    expect(view.locator("#results .abstained")).to_have_text(["abstained"] * 2)


def test_several_labels_may_apply(view: Page) -> None:
    view.locator("#classifier").select_option("tiny")
    view.get_by_label("Several labels may apply").check()
    classify(view, ("a",), ("yes", "no", "maybe"))
    expect(view.locator("#results .note").first).to_contain_text("Set: ")
    explained = view.locator("#term-set")
    expect(explained).to_be_hidden()
    view.get_by_role("button", name="Set", exact=True).click()
    expect(explained).to_be_visible()
    view.keyboard.press("Escape")
    expect(explained).to_be_hidden()


def test_an_error_is_shown_in_the_services_words(view: Page) -> None:
    view.locator("#classifier").select_option("tiny")
    view.locator("#labels").fill("only one")
    view.get_by_role("button", name="Classify").click()
    expect(view.locator("#classify-problem")).to_contain_text("candidate_labels")


def test_several_questions_are_asked_about_each_text(view: Page, tmp_path: Path) -> None:
    view.locator("#classifier").select_option("tiny")
    view.locator("#questions").fill(
        f"It is late.\nSubject: a, {MARKUP[0]}\nPraise: none < some < much"
    )
    view.locator("#inputs").fill("first\nsecond")
    view.get_by_role("button", name="Classify").click()
    expect(view.get_by_role("status").last).to_have_text("Done: 2 of 2.")
    first = view.locator("#results > li").first
    assert first.locator(".note").all_inner_texts() == ["It is late.", "Subject", "Praise"]
    assert {*first.locator("table").nth(0).locator("th").all_inner_texts()} == {"yes", "no"}
    assert {*first.locator("table").nth(1).locator("th").all_inner_texts()} == {"a", MARKUP[0]}
    levels = first.locator("table").nth(2).locator("th").all_inner_texts()
    assert levels == ["none", "some", "much"]
    read = rows(view, tmp_path / "decided.csv")
    assert [(row["text"], row["question"]) for row in read] == [
        (text, question)
        for text in ("first", "second")
        for question in ("It is late.", "Subject", "Praise")
    ]
