"""The table of docs/versions.md."""

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from tools.markdown_pages import replaced
from tools.vllm_window.run import PROMISES, Cell, Outcome

PAGE = Path("docs/versions.md")
NAME = "versions"

_FIRST = "promise"
_WHEN = "run on"
_FAILED = re.compile(r"- `(?P<version>\S+) (?P<client>\w+)`: `(?P<test>.+)`")

Columns = dict[Cell, dict[str, str]]
"""The texts of each column by the first text of the row."""


def write(cell: Cell, found: Mapping[str, Outcome]) -> None:
    """Write a cell's outcomes into the page; those of other cells stay."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(replaced(page, NAME, written(page, cell, found)), encoding="utf-8")


def written(page: str, cell: Cell, found: Mapping[str, Outcome]) -> str:
    """The table of a page with a cell's outcomes as its column, and the failed tests below it."""
    columns, failed = _columns(page), _failed(page)
    failed[cell] = [
        f"{Path(file).name}::{test}" for file, each in found.items() for test in each.failed
    ]
    texts = {_row(promise): _said(found[file]) for promise, file in PROMISES.items()}
    columns[cell] = texts | {_WHEN: f"{datetime.now(UTC):%Y-%m-%d}"}
    cells = sorted(columns, key=_place)
    heads = [f"{each.version} {each.client}" for each in cells]
    lines = [_line(_FIRST, *heads), _line(*["---"] * (len(heads) + 1))]
    for row in [*map(_row, PROMISES), _WHEN]:
        lines.append(_line(row, *(columns[each].get(row, "not run") for each in cells)))
    names = [
        f"- `{each.version} {each.client}`: `{test}`"
        for each in cells
        for test in failed.get(each, ())
    ]
    return "\n".join([*lines, *(["", "Failed:", "", *names] if names else [])])


def _said(outcome: Outcome) -> str:
    if not outcome.passed and not outcome.failed:
        return "none ran" if outcome.left_out else "**did not run**"
    parts = [str(outcome.passed)]
    if outcome.failed:
        parts.append(f"**{len(outcome.failed)} failed**")
    if outcome.left_out:
        parts.append(f"{outcome.left_out} left out")
    return ", ".join(parts)


def _row(promise: str) -> str:
    return f"{promise} (`{Path(PROMISES[promise]).name}`)"


def _line(*texts: str) -> str:
    return f"| {' | '.join(texts)} |"


def _place(cell: Cell) -> tuple[list[int], bool]:
    return [int(part) for part in cell.version.split(".")], cell.client != "stock"


def _columns(page: str) -> Columns:
    """The columns of the page's table."""
    head, *rows = _rows(page) or [[_FIRST]]
    cells = [Cell(*text.split()) for text in head[1:]]
    return {cell: {row[0]: row[n] for row in rows[1:]} for n, cell in enumerate(cells, 1)}


def _rows(page: str) -> list[list[str]]:
    block = page.partition(f"<!-- {NAME}: begin -->")[2].partition(f"<!-- {NAME}: end -->")[0]
    lines = [line for line in block.splitlines() if line.startswith("| ")]
    return [line.removeprefix("| ").removesuffix(" |").split(" | ") for line in lines]


def _failed(page: str) -> dict[Cell, list[str]]:
    """The failed tests that the page names."""
    found: dict[Cell, list[str]] = {}
    for cell, test in _named(page):
        found.setdefault(cell, []).append(test)
    return found


def _named(page: str) -> Iterator[tuple[Cell, str]]:
    for line in page.splitlines():
        if match := _FAILED.fullmatch(line):
            yield Cell(match["version"], match["client"]), match["test"]
