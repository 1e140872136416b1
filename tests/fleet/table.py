"""The table of docs/routers.md: a row for each check, a column for each router."""

from collections.abc import Mapping
from pathlib import Path

from tests.fleet.checks import CHECKS
from tests.fleet.routers import ROUTERS
from tools.markdown_pages import replaced

PAGE = Path("docs/routers.md")
_NAME = "routers"
_UNTRIED = "not tried"

Cells = Mapping[str, Mapping[str, str]]
"""The text of each check's cell, by router and check."""


def write(found: Cells) -> None:
    """Write what was found into the page's table; the other cells stay."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(page, _NAME, table(found, page)), encoding="utf-8")


def table(found: Cells, page: str = "") -> str:
    """The table; cells that were not tried are those of the page."""
    before = _cells(page)
    versions = [f"{name} {ROUTERS[name].version()}" for name in ROUTERS]
    lines = [f"| | {' | '.join(versions)} |", "| --- |" + " --- |" * len(ROUTERS)]
    for check in CHECKS:
        cells = (
            found.get(router, {}).get(check) or before.get((check, router), _UNTRIED)
            for router in ROUTERS
        )
        lines.append(f"| {check} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cells(page: str) -> dict[tuple[str, str], str]:
    """The cells of the page's table, by check and router."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    heads = next((row for row in rows if row[0].partition(" ")[0] in ROUTERS), [])
    routers = [head.partition(" ")[0] for head in heads]
    return {
        (row[0], router): cell
        for row in rows
        if row[0] in CHECKS
        for router, cell in zip(routers, row[1:], strict=False)
    }
