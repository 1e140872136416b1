"""The index of the decisions, docs/decisions/README.md, from their titles."""

import re
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "docs" / "decisions"
PAGE = FOLDER / "README.md"
_HEAD = """\
# Decisions

Each decision has one page: context, decision, consequences. When a later decision replaces it, the
page stays and its status names the later one. `make generate` writes this list from the titles.

"""
_TITLE = re.compile(r"# (\d+)\. (.+)\n\nStatus: (\w+)")


def page() -> str:
    """The index as it should be, a line for each decision in the order of their numbers.

    Raises ValueError for a page whose name or first lines are not those of a decision, or whose
    number is not the next one.
    """
    lines = [_line(number, file) for number, file in enumerate(decisions(), start=1)]
    return _HEAD + "\n".join(lines) + "\n"


def decisions() -> list[Path]:
    """The pages of the decisions, by name."""
    return sorted(file for file in FOLDER.glob("*.md") if file != PAGE)


def _line(number: int, file: Path) -> str:
    found = _TITLE.match(file.read_text(encoding="utf-8"))
    if not found or int(found[1]) != number or not file.name.startswith(f"{number:04}-"):
        raise ValueError(
            f"{file.name}: expected the name {number:04}-....md and the first lines "
            f"'# {number}. Title' and 'Status: accepted'"
        )
    status = "" if found[3] == "accepted" else f" ({found[3]})"
    return f"{number}. [{found[2]}]({file.name}){status}"
