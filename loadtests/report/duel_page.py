"""The page of a comparison: deltas, both sides' curves and stages."""

from collections.abc import Sequence
from html import escape

from loadtests.analysis.comparison import Delta
from loadtests.analysis.duel import Contender, Duel
from loadtests.report.page import document, groups, table
from loadtests.report.svg import Curve, chart
from loadtests.report.wording import DELTAS, LATENCIES, milliseconds, pairing, percent

_CURVES = ("ttft_due", "itl", "tpot", "e2e_due", "classify_due")


def duel_page(duel: Duel) -> str:
    """One self-contained HTML page."""
    first, second = duel.first, duel.second
    titles = f"{escape(first.name)} against {escape(second.name)}"
    machine = ", ".join(f"{key} {value}" for key, value in duel.machine.items())
    head = (
        f"<h1>{titles}</h1><p>Scenario {escape(duel.scenario)}, {duel.rounds} rounds "
        f"{pairing(duel.paired)}; intervals by {duel.draws} block bootstrap draws.</p>"
        + "".join(f"<p>Doubt: {escape(doubt)}</p>" for doubt in duel.doubts)
        + "".join(f"<p>Failures: {escape(failure)}</p>" for failure in duel.failures)
        + f'<p class="dim">{escape(duel.started_at)} | {escape(machine)}<br>'
        f"<code>{escape(duel.command)}</code></p>"
    )
    drawn = [_curve(name, duel) for name in _CURVES] + [_knee(duel), _goodput(duel)]
    return document(
        f"Comparison: {titles}",
        [
            head,
            table("Deltas", delta_header(duel), [delta_row(delta) for delta in duel.deltas]),
            groups("Both", [first.overall, second.overall]),
            f'<h2>Figures</h2><div class="figures">{"".join(drawn)}</div>',
            groups(f"Stages of {first.name}", first.stages),
            groups(f"Stages of {second.name}", second.stages),
        ],
    )


def delta_header(duel: Duel) -> Sequence[str]:
    """The columns of `delta_row`."""
    names = (duel.first.name, duel.second.name)
    return ("ms (goodput: share)", "", *names, "change", "95% interval", duel.second.name + " is")


def delta_row(delta: Delta) -> Sequence[str]:
    """A delta as text."""
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
