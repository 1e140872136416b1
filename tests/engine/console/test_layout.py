"""Each view looks as in the documentation's picture of it, on a machine with any fonts."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.engine.console.conftest import CLASSIFIER, SECONDS, TENANT
from tests.engine.console.layout import wrong
from tests.engine.console.views import VIEWS, Subject, View
from tests.served.server import Server
from tools.keys import key_of

pytestmark = pytest.mark.browser

_ADOPT = """css => {
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets = [sheet];
}"""
_FONTS = ("font-family: serif", "letter-spacing: -.04em")
"""A wider font and a narrower one."""
_UNNOTICED = {
    "usage": ["one column"],
    "phone": ["one column", "the other theme"],
    "live": ["one column"],
}
"""What these views cannot show: they have one column, and a phone shows the answer alone."""
_BROKEN = {
    "one column": ".columns { grid-template-columns: 1fr !important; }",
    "no header": "header { display: none !important; }",
    "no styles": "* { all: revert !important; }",
    "the other theme": ":root { color-scheme: light !important; } "
    "@media (prefers-color-scheme: light) { :root { color-scheme: dark !important; } }",
    "too wide": "main { margin: 0 6rem !important; }",
}


@pytest.fixture(params=VIEWS, ids=lambda view: view.name)
def shown(
    request: pytest.FixtureRequest, chromium: Browser, server: Server
) -> Iterator[tuple[Page, View]]:
    """A view of the tests' server, in the window of its picture."""
    expect.set_options(timeout=1000 * SECONDS)
    view: View = request.param
    page = view.opened(chromium, Subject(server, key_of(TENANT), CLASSIFIER))
    yield page, view
    page.context.close()


def test_a_view_looks_as_its_picture_in_any_font_and_a_broken_one_does_not(
    shown: tuple[Page, View],
) -> None:
    page, view = shown
    assert wrong(page, view) == []
    for font in _FONTS:
        page.evaluate(_ADOPT, f":root, button, input {{ {font} }}")
        assert wrong(page, view) == [], font
    unnoticed = []
    for name, css in _BROKEN.items():
        page.evaluate(_ADOPT, css)
        if not wrong(page, view):
            unnoticed.append(name)
    assert unnoticed == _UNNOTICED.get(view.name, [])
