"""The console's texts to try, on a service of an adapter that is proven, and on what it shows."""

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page

from tests.adapters.proven import proven, served_base, sources
from tests.adapters.samples import AdapterFolder, write_base
from tests.engine.console.conftest import Watched
from tests.live_service import MODEL, LiveService

pytestmark = pytest.mark.browser

ADAPTER = "moods"


@pytest.fixture(params=[True, False], ids=["shown", "hidden"])
def view(
    request: pytest.FixtureRequest, chromium: Browser, tmp_path: Path
) -> Iterator[tuple[Page, AdapterFolder, bool]]:
    """The view of classification, the adapter, and whether it shows its examples."""
    folder = write_base(tmp_path / "base")
    proving = proven(tmp_path / ADAPTER, served_base(folder), name=ADAPTER)
    with ThreadPoolExecutor(1) as thread:  # Playwright's own loop runs in this one
        made: AdapterFolder = thread.submit(asyncio.run, proving).result()
    adapters = [each | {"show_examples": request.param} for each in sources(tmp_path / ADAPTER)]
    cache = {"path": tmp_path / "cache"}
    with LiveService(model_path=folder, adapters=adapters, adapter_cache=cache) as live:
        context = chromium.new_context()
        watched = Watched(context.new_page(), live.url)
        watched.page.goto(f"{live.url}/console#classify")
        watched.page.locator("#classifier option").first.wait_for(state="attached")
        yield watched.page, made, request.param
        context.close()
        assert watched.wrong == []


def test_the_texts_fit_what_is_chosen_until_a_person_writes_their_own(
    view: tuple[Page, AdapterFolder, bool],
) -> None:
    page, made, shown = view
    texts, classifier = page.locator("#inputs"), page.locator("#classifier")
    assert classifier.input_value() == ADAPTER
    own = texts.input_value()
    texts_of_proof = {each["input"] for each in made.golden}
    assert {*own.splitlines()} <= texts_of_proof if shown else "parcel" in own
    classifier.select_option(MODEL)
    assert "film" in texts.input_value()
    classifier.select_option(ADAPTER)
    assert texts.input_value() == own
    texts.fill("mine")
    classifier.select_option(MODEL)
    assert texts.input_value() == "mine"
