"""One self-contained HTML page: opens anywhere, asks nothing of a network."""

from collections.abc import Sequence
from html import escape

from loadtests.analysis.result import Result
from loadtests.analysis.summary import Summary
from loadtests.report.figures import figures
from loadtests.report.groups import group_table
from loadtests.report.wording import (
    LATENCIES,
    goodput,
    index,
    interval,
    milliseconds,
    outcomes,
    percent,
)

_STYLE = """
:root { color-scheme: light dark; --ink: #1f2933; --dim: #667; --line: #d8dde3; --bg: #fff; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e4e7eb; --dim: #9aa5b1; --line: #3e4c59; --bg: #16191d; } }
body { font: 14px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--bg);
  max-width: 1200px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0; } h2 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .6rem; border-bottom: 1px solid var(--line); }
.words { text-align: left; } th { color: var(--dim); }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(400px, 1fr)); gap: 1rem; }
figure { margin: 0; } figcaption { font-weight: 600; }
svg { width: 100%; height: auto; } svg text { fill: var(--dim); font: 11px system-ui, sans-serif; }
svg .grid { stroke: var(--line); stroke-width: .6; } svg .axis { stroke: var(--dim); }
svg line.mark { stroke: var(--dim); stroke-dasharray: 3 3; }
.legend span { margin-right: 1rem; color: var(--dim); }
.legend i { display: inline-block; width: .7rem; height: .7rem; margin-right: .3rem; }
.verdict { display: inline-block; padding: .1rem .6rem; border-radius: .3rem; color: #fff; }
.ok { background: #2b8a3e; } .bad { background: #c92a2a; } .warn { background: #b35c00; }
.dim { color: var(--dim); } code { overflow-wrap: anywhere; }
""".strip()

_VERDICTS = {0: "ok", 3: "warn"}

Row = Sequence[str]


def page(result: Result) -> str:
    """The report of a result."""
    name = escape(str(result.scenario["name"]))
    sections = [
        _head(result),
        _validity(result),
        _latency(result),
        f'<h2>Figures</h2><div class="figures">{"".join(figures(result))}</div>',
        groups("Stages", result.stages),
        groups("Workloads", result.workloads),
        groups("Adapters", result.adapters),
        groups("Tenants", result.tenants),
        _fairness(result),
        _errors(result),
        _compat(result),
    ]
    return document(f"Load test: {name}", sections)


def document(title: str, sections: Sequence[str]) -> str:
    """A whole page of sections in HTML."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{title}</title><style>{_STYLE}</style></head><body>"
        f"{''.join(sections)}</body></html>\n"
    )


def table(title: str, header: Row, rows: Sequence[Row], words: Sequence[int] = (0,)) -> str:
    """A titled table of plain text cells; `words` are the columns that are read, not compared."""
    if not rows:
        return ""
    lines = [_line("th", header, words), *(_line("td", row, words) for row in rows)]
    return f"<h2>{escape(title)}</h2><table>{''.join(lines)}</table>"


def _line(tag: str, cells: Row, words: Sequence[int]) -> str:
    written = (
        f"<{tag}{' class=words' if column in words else ''}>{escape(cell)}</{tag}>"
        for column, cell in enumerate(cells)
    )
    return f"<tr>{''.join(written)}</tr>"


def _head(result: Result) -> str:
    overall, verdict = result.overall, result.verdict
    came = overall.throughput
    kind = _VERDICTS.get(verdict.exit_code, "bad")
    target = ", ".join(f"{key} {value}" for key, value in result.target.items())
    machine = ", ".join(f"{key} {value}" for key, value in result.machine.items())
    objectives = result.objectives
    wanted = (
        f"Goodput {goodput(overall)} within {objectives.name}, "
        f"wanted {percent(objectives.goodput)}."
        if objectives
        else "No objectives were set."
    )
    lines = [
        f"{overall.offered} requests offered in {overall.window_s:.0f} s "
        f"({overall.offered_per_s:.2f}/s); not answered: {outcomes(overall)}.",
        f"In that time came {came.answers_per_s:.2f} answers/s, "
        f"{came.completion_tokens_per_s:.1f} output tokens/s, {came.items_per_s:.1f} classified "
        f"texts/s, for {came.prompt_tokens_per_s:.1f} prompt tokens/s "
        f"({overall.cached_tokens} of {overall.prompt_tokens} from cache).",
        wanted,
    ]
    return (
        f"<h1>{escape(str(result.scenario['name']))} "
        f'<span class="verdict {kind}">{escape(verdict.status)}</span></h1>'
        f"<p>{escape('; '.join(verdict.reasons))}</p>"
        + "".join(f"<p>{escape(line)}</p>" for line in lines)
        + f'<p class="dim">{escape(result.started_at)} | {escape(target)} | {escape(machine)}'
        f"<br><code>{escape(result.command)}</code></p>"
    )


def _validity(result: Result) -> str:
    words = {True: "passed", False: "FAILED", None: "not checked"}
    rows = [
        (
            check.name,
            words[check.passed],
            "" if check.value is None else f"{check.value:.4g}",
            "" if check.limit is None else f"{check.limit:g}",
            check.message,
        )
        for check in result.validity
    ]
    header = ("check", "", "value", "limit", "")
    return table("Validity", header, rows, words=(0, 1, 4))


def _latency(result: Result) -> str:
    rows = []
    for name, title in LATENCIES.items():
        if name in result.overall.latency:
            d = result.overall.latency[name]
            numbers = [milliseconds(v) for v in (d.mean, d.p50, d.p90, d.p95, d.p99, d.max)]
            rows.append((title, str(d.samples), *numbers, interval(d, "p50"), interval(d, "mean")))
    header = ("ms", "samples", "mean", "p50", "p90", "p95", "p99", "max", "p50, 95%", "mean, 95%")
    return table("Latency", header, rows)


def groups(title: str, summaries: Sequence[Summary]) -> str:
    """A table with a row for each of several groups; nothing for one."""
    if len(summaries) < 2:
        return ""
    header, rows = group_table(summaries)
    return table(f"{title} (ms)", header, rows)


def _fairness(result: Result) -> str:
    fair = result.fairness
    if len(fair.tenants) < 2:
        return ""
    rows = [
        (
            name,
            f"{share.weight:g}",
            f"{share.demand_tokens:.0f}",
            f"{share.served_tokens:.0f}",
            f"{share.entitled_tokens:.0f}",
        )
        for name, share in fair.tenants.items()
    ]
    header = ("tenant", "weight", "asked tokens", "served tokens", "entitled tokens")
    return table("Fairness", header, rows) + (
        f"<p>Jain's index: {index(fair.jain_service)} over service per weight, "
        f"{index(fair.jain_entitled)} over the share of the max-min entitlement.</p>"
    )


def _errors(result: Result) -> str:
    rows = [(message, str(count)) for message, count in result.errors.items()]
    return table("Errors", ("message", "count"), rows)


def _compat(result: Result) -> str:
    rows = [
        (tool, name, f"{value:.2f}")
        for tool, block in result.compat.items()
        for name, value in block.items()
    ]
    return table("In the words of other tools", ("tool", "metric", "value"), rows)
