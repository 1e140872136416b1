"""The index of the decisions, docs/decisions/README.md, from their titles."""

import re
from itertools import chain
from pathlib import Path

from tools.moved_pages import moved

FOLDER = Path(__file__).parents[1] / "docs" / "decisions"
PAGE = FOLDER / "README.md"
_HEAD = """\
# Decisions

One page for each subject. A new decision changes the page of its subject, or gets the next number;
numbers in brackets were merged. `make generate` writes this list.

"""
_TITLE = re.compile(r"# (\d+)\. (.+)\n\nStatus: (\w+)")


def page() -> str:
    """The index as it should be: the decisions by number, each with the numbers merged into it.

    Raises ValueError for a page whose name or first lines are not those of a decision, or where a
    number between the first and the last is neither a page's nor that of a merged page.
    """
    lines = {_number(file): _line(file) for file in decisions()}
    merged: dict[int, list[int]] = {number: [] for number in lines}
    for old, new in moved().items():
        number = _number(Path(old))
        if number not in {0, *lines}:
            merged[_number(Path(new))].append(number)
    for number in range(1, max(lines) + 1):
        if number not in {*lines, *chain(*merged.values())}:
            raise ValueError(f"no decision has the number {number:04}, and none was merged")
    return _HEAD + "".join(f"{line}{_also(merged[at])}\n" for at, line in lines.items())


def decisions() -> list[Path]:
    """The pages of the decisions, by name."""
    return sorted(file for file in FOLDER.glob("*.md") if file != PAGE)


def _also(numbers: list[int]) -> str:
    return f" ({', '.join(map(str, sorted(set(numbers))))})" if numbers else ""


def _number(file: Path) -> int:
    return int(file.name.partition("-")[0]) if file.name[:4].isdecimal() else 0


def _line(file: Path) -> str:
    found = _TITLE.match(file.read_text(encoding="utf-8"))
    if not found or not file.name.startswith(f"{int(found[1]):04}-"):
        raise ValueError(
            f"{file.name}: expected the name NNNN-....md and the first lines "
            f"'# N. Title' and 'Status: accepted' with the same number"
        )
    status = "" if found[3] == "accepted" else f" ({found[3]})"
    return f"- {int(found[1])}. [{found[2]}]({file.name}){status}"
