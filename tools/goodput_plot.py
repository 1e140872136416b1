"""The plot docs/images/goodput.svg: goodput under overload, from the table of docs/benchmarks.md.

A stage's goodput in requests/s is its offered rate times the share that was answered within the
objectives; both stand in the table that `python -m loadtests report` writes.
"""

import re
from collections.abc import Mapping
from math import ceil
from pathlib import Path

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "docs/benchmarks.md"
PICTURE = ROOT / "docs/images/goodput.svg"

_HEADING = "## overload: this service against vllm serve"
_COLOURS = {"this service": "#3f51b5", "vllm serve": "#e08a1e"}
_LEFT, _TOP, _WIDTH, _HEIGHT, _BAR = 60, 56, 600, 190, 42


def picture() -> str:
    """The SVG text of the plot."""
    return _drawn(goodput(SOURCE.read_text(encoding="utf-8")))


def goodput(page: str) -> dict[str, dict[str, float]]:
    """Goodput by the offered requests/s of a stage, and by server, in the order of the page.

    Raises ValueError for a page without the table.
    """
    section = page.partition(f"{_HEADING}\n")[2].partition("\n## ")[0]
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in section.splitlines()]
    heads = [row for row in rows if "offered/s" in row]
    if not heads:
        raise ValueError(f"{SOURCE.name}: no table of stages under {_HEADING!r}")
    offered, share = heads[0].index("offered/s"), heads[0].index("goodput")
    stages: dict[str, dict[str, float]] = {}
    for row in rows:
        named = re.fullmatch(r"(.+), x[\d.]+", row[0]) if row else None
        if named:
            rate = float(row[offered]) * float(row[share].rstrip("%")) / 100
            stages.setdefault(row[offered], {})[named[1]] = rate
    return stages


def _drawn(stages: Mapping[str, Mapping[str, float]]) -> str:
    most = max(rate for stage in stages.values() for rate in stage.values())
    top = 2 * ceil(most / 2)
    step = _WIDTH / len(stages)
    parts = [*_frame(), *_grid(top)]
    for place, (offered, rates) in enumerate(stages.items()):
        middle = _LEFT + step * (place + 0.5)
        for side, (server, rate) in enumerate(rates.items()):
            parts += _bar(middle + (side - 1) * _BAR, rate, top, _COLOURS[server])
        parts.append(_text(middle, _TOP + _HEIGHT + 18, offered))
    return "\n".join([*parts, "</svg>", ""])


def _frame() -> list[str]:
    width, height = _LEFT + _WIDTH + 20, _TOP + _HEIGHT + 48
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
    parts = [
        f'{head} font-family="sans-serif" font-size="12">',
        "<title>Requests a second answered within the objectives, by offered load</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(_LEFT, 20, "Requests/s answered within the objectives", "start"),
        _text(_LEFT + _WIDTH / 2, height - 8, "offered requests/s, in this order"),
    ]
    for place, (server, colour) in enumerate(_COLOURS.items()):
        at = _LEFT + 140 * place
        parts.append(f'<rect x="{at}" y="30" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(at + 18, 40, server, "start"))
    return parts


def _grid(top: int) -> list[str]:
    parts = []
    for value in range(0, top + 1, 2):
        y = _TOP + _HEIGHT - _HEIGHT * value / top
        line = f'x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}"'
        parts.append(f'<line {line} stroke="#dddddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, str(value), "end"))
    return parts


def _bar(x: float, rate: float, top: int, colour: str) -> list[str]:
    height = _HEIGHT * rate / top
    y = _TOP + _HEIGHT - height
    place = f'x="{x + 2:.1f}" y="{y:.1f}" width="{_BAR - 4}" height="{height:.1f}"'
    return [f'<rect {place} fill="{colour}"/>', _text(x + _BAR / 2, y - 4, f"{rate:.1f}")]


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="#333333">{words}</text>'
