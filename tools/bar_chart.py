"""Grouped bars as a small SVG text."""

from collections.abc import Mapping
from math import ceil, log10

_COLOURS = ("#3f51b5", "#e08a1e", "#8a8a8a")
_LEFT, _TOP, _WIDTH, _HEIGHT, _BAR = 60, 56, 640, 190, 40


def drawn(title: str, axis: str, groups: Mapping[str, Mapping[str, float]]) -> str:
    """A bar for each series of each group; all groups have the same series, at most three."""
    series = list(next(iter(groups.values())))
    tick = _tick(max(value for bars in groups.values() for value in bars.values()))
    top = tick * ceil(max(max(bars.values()) for bars in groups.values()) / tick)
    parts = [*_frame(title, axis, series), *_grid(tick, top)]
    step = _WIDTH / len(groups)
    wide = min(_BAR, step * 0.8 / len(series))
    for place, (name, bars) in enumerate(groups.items()):
        middle = _LEFT + step * (place + 0.5)
        for side, (value, colour) in enumerate(zip(bars.values(), _COLOURS, strict=False)):
            parts += _bar(middle + (side - len(bars) / 2) * wide, wide, value, top, colour)
        parts.append(_text(middle, _TOP + _HEIGHT + 18, name))
    return "\n".join([*parts, "</svg>", ""])


def _tick(most: float) -> float:
    """The distance of the lines: 1, 2 or 5 times a power of ten, for at most six lines."""
    unit = 10.0 ** int(log10(most) - 1)
    return next(unit * times for times in (1, 2, 5, 10, 20, 50) if most <= 6 * unit * times)


def _frame(title: str, axis: str, series: list[str]) -> list[str]:
    width, height = _LEFT + _WIDTH + 20, _TOP + _HEIGHT + 48
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}"'
    parts = [
        f'{head} font-family="sans-serif" font-size="12">',
        f"<title>{title}</title>",
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(_LEFT, 20, title, "start"),
        _text(_LEFT + _WIDTH / 2, height - 8, axis),
    ]
    for place, (name, colour) in enumerate(zip(series, _COLOURS, strict=False)):
        at = _LEFT + 210 * place
        parts.append(f'<rect x="{at}" y="30" width="12" height="12" fill="{colour}"/>')
        parts.append(_text(at + 18, 40, name, "start"))
    return parts


def _grid(tick: float, top: float) -> list[str]:
    parts = []
    for line in range(round(top / tick) + 1):
        y = _TOP + _HEIGHT - _HEIGHT * line * tick / top
        place = f'x1="{_LEFT}" x2="{_LEFT + _WIDTH}" y1="{y:.1f}" y2="{y:.1f}"'
        parts.append(f'<line {place} stroke="#dddddd"/>')
        parts.append(_text(_LEFT - 8, y + 4, f"{line * tick:g}", "end"))
    return parts


def _bar(x: float, wide: float, value: float, top: float, colour: str) -> list[str]:
    height = _HEIGHT * value / top
    y = _TOP + _HEIGHT - height
    place = f'x="{x + 2:.1f}" y="{y:.1f}" width="{wide - 4:.1f}" height="{height:.1f}"'
    shown = f"{value:.0f}" if value >= 20 else f"{value:.1f}"
    return [f'<rect {place} fill="{colour}"/>', _text(x + wide / 2, y - 4, shown)]


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    place = f'x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"'
    return f'<text {place} fill="#333333">{words}</text>'
