"""The table of docs/howto/routers.md: checks with the same results in a row, a column a router."""

from collections.abc import Mapping
from pathlib import Path

from tests.fleet.checks import CHECKS
from tests.fleet.routers import ROUTERS
from tools.markdown_pages import replaced

PAGE = Path("docs/howto/routers.md")
_NAME = "routers"
_UNTRIED = "not tried"
_LOAD_HEAD = "on the mock engine"

Cells = Mapping[str, Mapping[str, str]]
"""The text of each check's cell, by router and check."""


def write(found: Cells) -> None:
    """Write what was found into the page's table; the other cells stay."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(page, _NAME, table(found, page)), encoding="utf-8")


def write_load(found: Cells) -> None:
    """Write figures of routers into the page's other table; those of other routers stay."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(page, "load", load_table(found, page)), encoding="utf-8")


def load_table(found: Cells, page: str = "") -> str:
    """The table of figures; routers that were not measured have the page's, if it has any."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    at = next((index for index, row in enumerate(rows) if row[0] == _LOAD_HEAD), len(rows))
    heads = rows[at][1:] if at < len(rows) else []
    before = {row[0]: dict(zip(heads, row[1:], strict=False)) for row in rows[at:]}
    shown = [name for name in ROUTERS if name in found or name in heads]
    lines = [f"| {_LOAD_HEAD} | {' | '.join(shown)} |", "| --- |" + " --- |" * len(shown)]
    for what in dict.fromkeys(what for each in found.values() for what in each):
        cells = before.get(what, {}) | {name: each[what] for name, each in found.items()}
        lines.append(f"| {what} | {' | '.join(cells.get(name, _UNTRIED) for name in shown)} |")
    return "\n".join(lines)


def table(found: Cells, page: str = "") -> str:
    """The table, checks with equal cells in one row; cells that were not tried are the page's."""
    before = _cells(page)
    versions = [f"{name} {ROUTERS[name].version()}" for name in ROUTERS]
    lines = [f"| | {' | '.join(versions)} |", "| --- |" + " --- |" * len(ROUTERS)]
    rows: dict[tuple[str, ...], list[str]] = {}
    for check in CHECKS:
        cells = (
            found.get(router, {}).get(check) or before.get((check, router), _UNTRIED)
            for router in ROUTERS
        )
        rows.setdefault(tuple(cells), []).append(check)
    lines += [f"| {', '.join(checks)} | {' | '.join(cells)} |" for cells, checks in rows.items()]
    return "\n".join(lines)


def _cells(page: str) -> dict[tuple[str, str], str]:
    """The cells of the page's table, by check and router."""
    rows = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")]
    heads = next((row for row in rows if row[0].partition(" ")[0] in ROUTERS), [])
    routers = [head.partition(" ")[0] for head in heads]
    return {
        (check, router): cell
        for row in rows
        for check in row[0].split(", ")
        if check in CHECKS
        for router, cell in zip(routers, row[1:], strict=False)
    }
