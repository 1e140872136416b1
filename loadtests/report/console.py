"""The summary on the terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table

from loadtests.analysis.duel import Duel
from loadtests.analysis.result import Exit, Result
from loadtests.analysis.validity import invalid
from loadtests.report.beside import background, beside_table
from loadtests.report.duel_page import delta_table, rates
from loadtests.report.groups import group_table
from loadtests.report.wording import goodput, latency_rows, outcomes

_COLOURS = {Exit.OK: "green", Exit.FAILURES: "red", Exit.SLO_MISSED: "yellow"}


def show(result: Result) -> None:
    """Print a summary of a result for a person at a terminal."""
    console = Console(highlight=False)
    overall = result.overall
    came = overall.throughput
    console.print(
        f"[bold]{result.scenario['name']}[/] on {result.target['host']} "
        f"({result.target['api']}, {result.target['model']}), {overall.window_s:.0f} s measured"
    )
    console.print(
        f"offered {overall.offered} ({overall.offered_per_s:.2f}/s), "
        f"answered {overall.outcomes.get('ok', 0)}, "
        f"other: {outcomes(overall)}"
    )
    console.print(
        f"in the measured time {came.answers_per_s:.2f} answers/s, "
        f"{came.completion_tokens_per_s:.1f} output tokens/s, "
        f"{came.prompt_tokens_per_s:.1f} prompt tokens/s, {came.items_per_s:.1f} texts/s"
    )
    statistics = ("mean", "p50", "p90", "p95", "p99", "max")
    latencies = (row for row, _ in latency_rows(overall, statistics))
    console.print(_table(("ms", "samples", *statistics), latencies))
    if len(result.stages) > 1:
        console.print(_table(*group_table(result.stages)))
    if result.beside is not None:
        console.print(_table(*beside_table(result.beside)))
        console.print(background(result.beside), markup=False)
    if result.objectives is not None:
        console.print(
            f"goodput {goodput(overall)} within {result.objectives.name} "
            f"(wanted {result.objectives.goodput * 100:g}%)"
        )
    for message, count in result.errors.items():
        console.print(f"  {count} x {message}", markup=False)
    for check in result.validity:
        if check.passed is None:
            console.print(f"[dim]{check.name}: {check.message}[/]")
    for check in invalid(result.validity):
        console.print(f"[red]invalid[/] {check.name}: {check.message}")
    colour = _COLOURS.get(Exit(result.verdict.exit_code), "red")
    console.print(f"[bold {colour}]{result.verdict.status.upper()}[/] ", end="")
    console.print("; ".join(result.verdict.reasons), markup=False)


def show_duel(duel: Duel) -> None:
    """Print the deltas of a comparison, each side's stages, and doubts about it."""
    console = Console(highlight=False)
    console.print(_table(*delta_table(duel)))
    for side in (duel.first, duel.second):
        if len(side.stages) > 1:
            console.print(side.name, markup=False)
            console.print(_table(*group_table(side.stages)))
    if told := rates(duel):
        console.print(told, markup=False)
    if not duel.paired:
        console.print("not paired: the two sides had other requests")
    for reason in duel.doubts + duel.failures:
        console.print(f"doubt: {reason}", markup=False)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*header, box=None)
    for row in rows:
        table.add_row(*row)
    return table
