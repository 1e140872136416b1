"""Pages with a generated part."""

from pathlib import Path


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
