"""The summary on the terminal."""

from rich.console import Console
from rich.table import Table

from loadtests.analysis.duel import Duel
from loadtests.analysis.result import Exit, Result
from loadtests.analysis.validity import invalid
from loadtests.report.duel_page import delta_header, delta_row
from loadtests.report.wording import LATENCIES, goodput, milliseconds, outcomes

_COLOURS = {Exit.OK: "green", Exit.FAILURES: "red", Exit.SLO_MISSED: "yellow"}


def show(result: Result) -> None:
    """Print what a person at a terminal wants to know of a result."""
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
        f"{came.prompt_tokens_per_s:.1f} prompt tokens/s, {came.items_per_s:.1f} classified texts/s"
    )
    console.print(_latencies(result))
    if len(result.stages) > 1:
        console.print(_stages(result))
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
    """Print the deltas of a comparison, and what makes it doubtful."""
    console = Console(highlight=False)
    deltas = Table(*delta_header(duel), box=None)
    for delta in duel.deltas:
        deltas.add_row(*delta_row(delta))
    console.print(deltas)
    if not duel.paired:
        console.print("not paired: the two sides had other requests")
    for reason in duel.doubts + duel.failures:
        console.print(f"doubt: {reason}", markup=False)


def _latencies(result: Result) -> Table:
    table = Table("ms", "samples", "mean", "p50", "p90", "p95", "p99", "max", box=None)
    for name, title in LATENCIES.items():
        if name in result.overall.latency:
            d = result.overall.latency[name]
            cells = (d.mean, d.p50, d.p90, d.p95, d.p99, d.max)
            table.add_row(title, str(d.samples), *map(milliseconds, cells))
    return table


def _stages(result: Result) -> Table:
    header = ("stage", "offered/s", "answers/s", "tokens/s", "TTFT from due p50", "goodput")
    table = Table(*header, box=None)
    for stage in result.stages:
        first = stage.latency.get("ttft_due")
        table.add_row(
            stage.name,
            f"{stage.offered_per_s:.2f}",
            f"{stage.throughput.answers_per_s:.2f}",
            f"{stage.throughput.completion_tokens_per_s:.1f}",
            milliseconds(first.p50) if first else "-",
            goodput(stage),
        )
    return table
