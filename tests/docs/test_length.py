"""The documentation stays short enough to be read, and how-tos are a good part of it."""

from collections.abc import Iterable
from pathlib import Path

from tests.docs.pages import DOCS

MOST_WORDS = 50_000
LEAST_SHARE_OF_HOWTOS = 0.3


def words(pages: Iterable[Path]) -> int:
    """How many words the pages have; the bars and rules of tables are none."""
    texts = (page.read_text(encoding="utf-8") for page in pages)
    return sum(any(map(str.isalnum, each)) for text in texts for each in text.split())


def test_the_documentation_is_short() -> None:
    assert words(DOCS.rglob("*.md")) <= MOST_WORDS


def test_how_tos_are_a_good_part() -> None:
    howtos = words((DOCS / "howto").glob("*.md"))
    assert howtos >= LEAST_SHARE_OF_HOWTOS * words(DOCS.rglob("*.md"))
