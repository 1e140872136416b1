"""Markdown pages: their links and images outside of code, and their generated parts."""

import re
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

_CODE = re.compile(r"^( *)(```|~~~~).*?^\1\2[^\n]*$|`[^`\n]*`", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)")


def page_with(file: Path, name: str, generated: str) -> str:
    """The page with a new text between its markers; ValueError without them."""
    return replaced(file.read_text(encoding="utf-8"), name, generated)


def replaced(page: str, name: str, generated: str) -> str:
    """The page with this text between `<!-- NAME: begin -->` and `<!-- NAME: end -->`.

    Raises ValueError for a page without them.
    """
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    before, found, rest = page.partition(begin)
    _, closed, after = rest.partition(end)
    if not (found and closed):
        raise ValueError(f"the page has no {begin} ... {end}")
    return f"{before}{begin}\n{generated}\n{end}{after}"


def item(text: str) -> str:
    """A line of a list, wrapped as the pages are."""
    return textwrap.fill(
        text,
        120,
        initial_indent="- ",
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def targets(text: str) -> Iterator[str]:
    """The targets of all links and images, in their order."""
    for link in _links(text):
        yield link[2]


def rewritten(text: str, change: Callable[[str, str], str]) -> str:
    """The text with each link or image `[label](target)` replaced by `change(label, target)`.

    The `!` of an image stays before the replacement.
    """
    parts: list[str] = []
    at = 0
    for link in _links(text):
        parts += [text[at : link.start()], change(text[link.start(1) : link.end(1)], link[2])]
        at = link.end()
    return "".join([*parts, text[at:]])


def _links(text: str) -> Iterator[re.Match[str]]:
    """Links outside of code; a label may hold code."""
    return _LINK.finditer(_CODE.sub(lambda code: "-" * len(code[0]), text))
