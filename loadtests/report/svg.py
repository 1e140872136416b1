"""Line charts as SVG text: axes, curves, points and marks; no script, no font, no network.

Plotting libraries add one of these to a page or are very large: pygal's charts load a script from
another host; matplotlib writes 30 kB of paths for a chart and takes 30 MB.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from loadtests.report.templates import render

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
    edges, floor = (_LEFT, _WIDTH - _RIGHT), _HEIGHT - _BOTTOM

    def across(value: float) -> float:
        return _scale(value, x, *edges, log_x)

    def up(value: float) -> float:
        return _scale(value, y, floor, _TOP, False)

    drawn = [
        (
            curve,
            COLOURS[number % len(COLOURS)],
            [(across(px), up(py)) for px, py in curve.points if not log_x or px > 0],
        )
        for number, curve in enumerate(curves)
    ]
    return render(
        "chart.svg",
        title=title,
        x_label=x_label,
        y_label=y_label,
        width=_WIDTH,
        height=_HEIGHT,
        left=edges[0],
        right=edges[1],
        top=_TOP,
        floor=floor,
        x_ticks=[(across(value), f"{value:,g}") for value in x],
        y_ticks=[(up(value), f"{value:,g}") for value in y],
        marks=[(across(mark.x), mark.name) for mark in marks],
        curves=drawn,
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
    return round(start + (end - start) * (value - low) / (high - low), 1)
