"""The documentation stays short enough to be read, and how-tos are a good part of it."""

from collections.abc import Iterable
from pathlib import Path

from tests.docs.pages import DOCS

MOST_WORDS = 50_000
LEAST_SHARE_OF_HOWTOS = 0.3


def words(pages: Iterable[Path]) -> int:
    """How many words the pages have, as `wc -w` counts them."""
    return sum(len(page.read_text(encoding="utf-8").split()) for page in pages)


def test_the_documentation_is_short() -> None:
    assert words(DOCS.rglob("*.md")) <= MOST_WORDS


def test_how_tos_are_a_good_part() -> None:
    howtos = words((DOCS / "howto").glob("*.md"))
    assert howtos >= LEAST_SHARE_OF_HOWTOS * words(DOCS.rglob("*.md"))
