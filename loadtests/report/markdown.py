"""The results of several runs as the generated part of a Markdown document."""

from collections.abc import Sequence

from loadtests.analysis.duel import Contender, Duel
from loadtests.analysis.fairness import Fairness
from loadtests.analysis.result import Result
from loadtests.analysis.searched import Searched
from loadtests.analysis.summary import Summary
from loadtests.report.duel_page import delta_header, delta_row
from loadtests.report.groups import group_table
from loadtests.report.wording import LATENCIES, index, milliseconds, pairing, percent

BEGIN = "<!-- begin of what `python -m loadtests report --markdown` writes -->"
END = "<!-- end of what `python -m loadtests report --markdown` writes -->"

_INTRODUCTION = """Latencies in milliseconds; those "from due" count from the instant at which a
request was due, the others from its send. A quantile with too few requests behind it is not stated.
The definitions of all metrics are in `loadtests/analysis/latency.py`. Answers and tokens by the
second are those that came while requests were sent, in a stage's row while the stage lasted,
whichever stage had asked for them; all else in a row is of the requests that were due in that time.
"""


def sections(found: Sequence[Result | Duel | Searched]) -> str:
    """Comparisons, then searches, then runs, each with its command, machine and date."""
    duels = [_duel(each) for each in found if isinstance(each, Duel)]
    searches = [_search(each) for each in found if isinstance(each, Searched)]
    results = [_result(each) for each in found if isinstance(each, Result)]
    return "\n".join([_INTRODUCTION, *duels, *searches, *results])


def merged(document: str | None, generated: str) -> str:
    """A document with its generated part replaced, or added where it has none.

    Raises ValueError unless each marker stands there once, the begin first, or neither does.
    """
    part = f"{BEGIN}\n\n{generated}\n{END}\n"
    if document is None:
        return f"# Benchmarks\n\n{part}"
    if BEGIN not in document and END not in document:
        return f"{document.rstrip()}\n\n{part}"
    head, *rest = document.split(BEGIN)
    if len(rest) != 1 or rest[0].count(END) != 1 or END in head:
        raise ValueError(f"the document must hold {BEGIN!r} and then {END!r}, once each")
    return head + part + rest[0].partition(END)[2].removeprefix("\n")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table of plain cells."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def _duel(duel: Duel) -> str:
    sides = (duel.first, duel.second)
    parts = [
        f"## {duel.scenario}: {duel.first.name} against {duel.second.name}",
        f"{duel.rounds} rounds of each in random order, {pairing(duel.paired)}. "
        + "; ".join(duel.doubts + duel.failures),
        _provenance(duel.started_at, duel.command, duel.machine),
        table(delta_header(duel), [delta_row(delta) for delta in duel.deltas]),
        _of_each(sides),
        *(f"{side.name}: {_jain(side.fairness)}" for side in sides if len(side.tenants) > 1),
    ]
    return "\n\n".join(parts) + "\n"


def _of_each(sides: Sequence[Contender]) -> str:
    """Both sides' groups beside each other, so that a stage stands below the other's."""
    pairs = zip(*(_groups(side) for side in sides), strict=False)
    rows = [(side, group) for pair in pairs for side, group in zip(sides, pair, strict=True)]
    names = [
        side.name if group.name == side.name else f"{side.name}, {group.name}"
        for side, group in rows
    ]
    return table(*group_table([group for _, group in rows], names))


def _search(found: Searched) -> str:
    best = "none" if found.passed is None else f"{found.passed:.3g} requests/s"
    failed = "no rate failed" if found.failed is None else f"{found.failed:.3g} failed"
    rows = [
        (
            f"{probe.rate:.3g}",
            "yes" if probe.passed else "no",
            percent(probe.goodput.ratio) if probe.goodput else "-",
        )
        for probe in sorted(found.probes, key=lambda probe: probe.rate)
    ]
    parts = [
        f"## Highest rate within the objectives: {found.scenario or 'search'}",
        f"{best} ({failed}). {found.stopped or ''}".rstrip(),
        _provenance(found.started_at or "", found.command or "", found.machine | found.target),
        table(("requests/s", "within", "goodput"), rows),
    ]
    return "\n\n".join(parts) + "\n"


def _result(result: Result) -> str:
    verdict = result.verdict
    rows = []
    for name, title in LATENCIES.items():
        if name in result.overall.latency:
            d = result.overall.latency[name]
            rows.append((title, str(d.samples), *map(milliseconds, (d.mean, d.p50, d.p90, d.p99))))
    parts = [
        f"## {result.scenario['name']}",
        f"{result.scenario['description']} **{verdict.status}** {'; '.join(verdict.reasons)}",
        _provenance(result.started_at, result.command, result.machine | result.target),
        table(("ms", "samples", "mean", "p50", "p90", "p99"), rows),
        table(*group_table(_groups(result))),
    ]
    if len(result.tenants) > 1:
        parts.append(_jain(result.fairness))
    if result.disturbed_at is not None:
        parts.append(f"The server was disturbed {result.disturbed_at:.0f} s after the start.")
    return "\n\n".join(parts) + "\n"


def _groups(side: Result | Contender) -> list[Summary]:
    """The whole, and whatever it has several of."""
    groups = [side.overall]
    for several in (side.stages, side.workloads, side.adapters, side.tenants):
        groups += several if len(several) > 1 else []
    return groups


def _jain(fair: Fairness) -> str:
    return (
        f"Jain's index {index(fair.jain_service)} over service per weight, "
        f"{index(fair.jain_entitled)} over the share of the max-min entitlement."
    )


def _provenance(started_at: str, command: str, about: dict[str, str]) -> str:
    words = ", ".join(f"{key} {value}" for key, value in about.items())
    return f"{started_at}; {words}\n\n    {command}"
