"""The results of several runs as the generated part of a Markdown document."""

from collections.abc import Sequence

from loadtests.analysis.duel import Contender, Duel
from loadtests.analysis.result import Result
from loadtests.analysis.searched import Searched
from loadtests.analysis.summary import Summary
from loadtests.report.duel_page import delta_table, rates
from loadtests.report.groups import Table, group_table
from loadtests.report.templates import render
from loadtests.report.wording import latency_rows

BEGIN = "<!-- begin of what `python -m loadtests report --markdown` writes -->"
END = "<!-- end of what `python -m loadtests report --markdown` writes -->"


def sections(found: Sequence[Result | Duel | Searched]) -> str:
    """Comparisons, then searches, then runs, each with its command, machine and date."""
    return render(
        "results.md.j2",
        duels=[each for each in found if isinstance(each, Duel)],
        searches=[each for each in found if isinstance(each, Searched)],
        results=[each for each in found if isinstance(each, Result)],
        deltas=delta_table,
        rates=rates,
        of_each=_of_each,
        latency_rows=latency_rows,
        whole=lambda result: group_table(_groups(result)),
    )


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


def _of_each(duel: Duel) -> Table:
    """Both sides' groups beside each other, so that a stage stands below the other's."""
    sides = (duel.first, duel.second)
    pairs = zip(*(_groups(side) for side in sides), strict=False)
    rows = [(side, group) for pair in pairs for side, group in zip(sides, pair, strict=True)]
    names = [
        side.name if group.name == side.name else f"{side.name}, {group.name}"
        for side, group in rows
    ]
    return group_table([group for _, group in rows], names)


def _groups(side: Result | Contender) -> list[Summary]:
    """The whole, and whatever it has several of."""
    groups = [side.overall]
    for several in (side.stages, side.workloads, side.adapters, side.tenants):
        groups += several if len(several) > 1 else []
    return groups
