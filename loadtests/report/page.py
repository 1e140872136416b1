"""One self-contained HTML page, which needs no network."""

from loadtests.analysis.result import Result
from loadtests.report.figures import figures
from loadtests.report.templates import render
from loadtests.report.wording import interval, latency_rows


def page(result: Result) -> str:
    """The report of a result."""
    statistics = ("mean", "p50", "p90", "p95", "p99", "max")
    latencies = [
        (*row, interval(d, "p50"), interval(d, "mean"))
        for row, d in latency_rows(result.overall, statistics)
    ]
    return render("page.html", result=result, drawn=figures(result), latencies=latencies)
