"""Runbooks quote messages that the service logs."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RUNBOOKS = sorted((ROOT / "deploy/runbooks").glob("Inference*.md"))
SOURCE = "\n".join(path.read_text() for path in (ROOT / "service").rglob("*.py"))

QUOTE = re.compile(r"`([a-z][a-z,;:]*(?: (?:[A-Za-z,;:]+|[0-9]+)){2,})`")
"""Three words or more in code marks, which no command, series or setting is."""

PLACE = re.compile(r"\b([A-Z]+|[0-9]+)\b")
"""Word of a quote in whose place the message has a value."""


def quotes(page: Path) -> list[str]:
    text = " ".join(page.read_text().split())
    return [quote for quote in QUOTE.findall(text) if not quote.startswith(("sum ", "kubectl "))]


def in_source(quote: str) -> bool:
    words = PLACE.sub("VALUE", quote)
    pattern = re.escape(words).replace("VALUE", r"(?:\{[^{}]*\}|%\w)")
    return re.search(pattern, SOURCE) is not None


@pytest.mark.parametrize("page", RUNBOOKS, ids=lambda page: page.stem)
def test_quoted_messages_are_logged(page: Path) -> None:
    assert [quote for quote in quotes(page) if not in_source(quote)] == []


def test_messages_are_found() -> None:
    found = {quote for page in RUNBOOKS for quote in quotes(page)}
    assert {"the base passes N of M as well", "adapters not reloaded"} <= found
