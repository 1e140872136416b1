"""Line charts as SVG text: axes, curves, points and marks; no script, no font, no network."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_WIDTH, _HEIGHT = 560, 280
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 24, 14, 46
COLOURS = ("#2f6fde", "#d9480f", "#2b8a3e", "#9c36b5", "#e67700", "#0b7285", "#c2255c", "#495057")


@dataclass(frozen=True, slots=True)
class Curve:
    """A named curve; `dots` also marks its points."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


@dataclass(frozen=True, slots=True)
class Mark:
    """A vertical line with a word beside it."""

    x: float
    name: str


def chart(
    title: str,
    x_label: str,
    y_label: str,
    curves: Sequence[Curve],
    *,
    marks: Sequence[Mark] = (),
    log_x: bool = False,
) -> str:
    """A figure with its caption and legend; empty text when no curve has a point."""
    points = [p for curve in curves for p in curve.points if not log_x or p[0] > 0]
    if not points:
        return ""
    x = _axis([p[0] for p in points] + [mark.x for mark in marks], log=log_x)
    y = _axis([0.0, *(p[1] for p in points)], log=False)
    parts = [_frame(x, y, x_label, y_label, log_x)]
    for mark in marks:
        at = _scale(mark.x, x, _LEFT, _WIDTH - _RIGHT, log_x)
        parts.append(
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{_TOP}" '
            f'y2="{_HEIGHT - _BOTTOM}"/><text class="mark" x="{at + 3:.1f}" y="{_TOP + 10}">'
            f"{escape(mark.name)}</text>"
        )
    for number, curve in enumerate(curves):
        parts.append(_curve(curve, COLOURS[number % len(COLOURS)], x, y, log_x))
    legend = "".join(
        f'<span><i style="background:{COLOURS[n % len(COLOURS)]}"></i>{escape(c.name)}</span>'
        for n, c in enumerate(curves)
    )
    return (
        f"<figure><figcaption>{escape(title)}</figcaption>"
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(title)}">'
        f'{"".join(parts)}</svg><div class="legend">{legend}</div></figure>'
    )


def ticks(low: float, high: float) -> list[float]:
    """About five round numbers that span low to high."""
    if high <= low:
        high = low + 1
    raw = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= raw * 0.999)
    first = math.floor(low / step) * step
    count = math.ceil((high - first) / step - 1e-9)
    return [round(first + i * step, 12) for i in range(count + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten that span low to high; over many decades the powers."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1, 2, 5) if last - first <= 3 else (1,)
    marks = [10.0**power * step for power in range(first, last + 1) for step in steps]
    start = max(mark for mark in marks if mark <= low * 1.000001)
    end = min(mark for mark in marks if mark >= high * 0.999999 and mark > start)
    return [mark for mark in marks if start <= mark <= end]


def _axis(values: Sequence[float], *, log: bool) -> list[float]:
    if not log:
        return ticks(min(values), max(values))
    return log_ticks(min(v for v in values if v > 0), max(values))


def _scale(value: float, axis: list[float], start: float, end: float, log: bool) -> float:
    low, high = axis[0], axis[-1]
    if log:
        value, low, high = math.log10(value), math.log10(low), math.log10(high)
    return start + (end - start) * (value - low) / (high - low)


def _frame(x: list[float], y: list[float], x_label: str, y_label: str, log_x: bool) -> str:
    floor, edge = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    parts = []
    for value in y:
        at = _scale(value, y, floor, _TOP, False)
        parts.append(
            f'<line class="grid" x1="{_LEFT}" x2="{edge}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:,g}</text>'
        )
    for value in x:
        at = _scale(value, x, _LEFT, edge, log_x)
        parts.append(f'<text x="{at:.1f}" y="{floor + 16}" text-anchor="middle">{value:,g}</text>')
    middle = (_LEFT + edge) / 2
    parts.append(
        f'<line class="axis" x1="{_LEFT}" x2="{edge}" y1="{floor}" y2="{floor}"/>'
        f'<text x="{middle}" y="{_HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>'
        f'<text transform="translate(14 {(_TOP + floor) / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return "".join(parts)


def _curve(curve: Curve, colour: str, x: list[float], y: list[float], log_x: bool) -> str:
    places = [
        (
            _scale(px, x, _LEFT, _WIDTH - _RIGHT, log_x),
            _scale(py, y, _HEIGHT - _BOTTOM, _TOP, False),
        )
        for px, py in curve.points
        if not log_x or px > 0
    ]
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in places)
    drawn = f'<polyline fill="none" stroke="{colour}" stroke-width="1.8" points="{path}"/>'
    if curve.dots:
        drawn += "".join(
            f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>' for px, py in places
        )
    return drawn
