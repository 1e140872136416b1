"""Numbers and names as text."""

from collections.abc import Sequence

from loadtests.analysis.statistics import Distribution
from loadtests.analysis.summary import Summary

# Rows of a table of latencies, with their titles.
LATENCIES = {
    "ttft": "TTFT",
    "ttft_due": "TTFT from due",
    "itl": "ITL per token",
    "icl": "ICL per chunk",
    "tpot": "TPOT",
    "ntpot": "NTPOT",
    "e2e": "End to end",
    "e2e_due": "End to end from due",
    "queue": "Server queue",
    "classify": "Classification",
    "classify_due": "Classification from due",
    "embed": "Embedding",
    "embed_due": "Embedding from due",
}
# In a comparison requests are paired, so ITL is one number of each.
DELTAS = LATENCIES | {"itl": "ITL, a request's mean", "goodput": "Goodput"}
TOO_FEW = "too few"


def milliseconds(seconds: float | None) -> str:
    """Milliseconds with about three significant digits; `too few` without a value."""
    if seconds is None:
        return TOO_FEW
    value = seconds * 1000
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def latency_rows(
    summary: Summary, statistics: Sequence[str]
) -> list[tuple[tuple[str, ...], Distribution]]:
    """A row of text for each measured latency: name, samples, numbers; and its distribution."""
    return [
        ((title, str(d.samples), *(milliseconds(getattr(d, each)) for each in statistics)), d)
        for name, title in LATENCIES.items()
        if (d := summary.latency.get(name)) is not None
    ]


def interval(distribution: Distribution, name: str) -> str:
    """The 95% interval of a number in milliseconds, or nothing."""
    if name not in distribution.intervals:
        return ""
    low, high = distribution.intervals[name]
    return f"{milliseconds(low)} to {milliseconds(high)}"


def percent(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio * 100:.1f}%"


def pairing(paired: bool) -> str:
    """Words for the requests of a comparison: the same ones, or not."""
    if paired:
        return "on the same requests, paired, latencies on those that both answered"
    return "on requests of their own, not paired"


def index(value: float | None) -> str:
    """Jain's index."""
    return "-" if value is None else f"{value:.3f}"


def outcomes(summary: Summary) -> str:
    """Every outcome but success, most frequent first."""
    others = sorted(
        ((count, name) for name, count in summary.outcomes.items() if name != "ok"), reverse=True
    )
    return ", ".join(f"{count} {name}" for count, name in others) or "none"


def goodput(summary: Summary) -> str:
    return percent(summary.goodput.ratio) if summary.goodput else "-"
