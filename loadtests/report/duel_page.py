"""The page of a comparison: deltas, both sides' curves and stages."""

import math
from collections.abc import Sequence
from statistics import median

from loadtests.analysis.comparison import Delta
from loadtests.analysis.duel import Contender, Duel
from loadtests.report.groups import Table
from loadtests.report.svg import Curve, chart
from loadtests.report.templates import render
from loadtests.report.wording import DELTAS, LATENCIES, milliseconds, percent

_CURVES = ("ttft_due", "itl", "tpot", "e2e_due", "classify_due", "embed_due")


def duel_page(duel: Duel) -> str:
    """The comparison of two servers as one self-contained HTML page."""
    drawn = [_curve(name, duel) for name in _CURVES] + [_knee(duel), _goodput(duel)]
    return render("duel.html", duel=duel, drawn=drawn, deltas=delta_table(duel), rates=rates(duel))


def delta_table(duel: Duel) -> Table:
    """Header and a row of text for each delta."""
    names = (duel.first.name, duel.second.name)
    header = ("ms (goodput: share)", "", *names, "change", "95% interval", f"{names[1]} is")
    return header, [_delta_row(delta) for delta in duel.deltas]


def rates(duel: Duel) -> str:
    """The throughput of both sides and its ratio, by medians of the rounds; empty for open load."""
    if not duel.answers_per_s:
        return ""
    first, second = (median(side) for side in zip(*duel.answers_per_s, strict=True))
    ratios = [one / other if other else math.inf for one, other in duel.answers_per_s]
    return (
        f"answers/s: {duel.first.name} {first:.2f}, {duel.second.name} {second:.2f}, ratio "
        f"{median(ratios):.3f} (rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)})"
    )


def _delta_row(delta: Delta) -> Sequence[str]:
    share = delta.metric == "goodput"
    write, unit = (percent, " points") if share else (milliseconds, "%")
    low, high = delta.interval
    return (
        DELTAS[delta.metric],
        delta.statistic,
        write(delta.first),
        write(delta.second),
        f"{delta.change * 100:+.1f}{unit}",
        f"{low * 100:+.1f}{unit} to {high * 100:+.1f}{unit}",
        delta.verdict,
    )


def _curve(name: str, duel: Duel) -> str:
    curves = [
        Curve(s.name, [(value * 1000, i / 100) for i, value in enumerate(s.curves[name])])
        for s in (duel.first, duel.second)
        if name in s.curves
    ]
    return chart(f"{LATENCIES[name]}: share of samples below", "ms", "share", curves, log_x=True)


def _knee(duel: Duel) -> str:
    if len(duel.first.stages) < 2:
        return ""
    curves = [Curve(s.name, _medians(s), dots=True) for s in (duel.first, duel.second)]
    title = "Median TTFT from due against offered rate"
    return chart(title, "offered requests/s", "ms", curves)


def _medians(contender: Contender) -> list[tuple[float, float]]:
    points = []
    for stage in contender.stages:
        found = stage.latency.get("ttft_due")
        if found is not None and found.p50 is not None:
            points.append((stage.offered_per_s, found.p50 * 1000))
    return sorted(points)


def _goodput(duel: Duel) -> str:
    if len(duel.first.stages) < 2:
        return ""
    curves = [
        Curve(
            s.name,
            sorted((t.offered_per_s, t.goodput.per_s) for t in s.stages if t.goodput is not None),
            dots=True,
        )
        for s in (duel.first, duel.second)
    ]
    return chart("Goodput against offered rate", "offered requests/s", "requests/s", curves)
