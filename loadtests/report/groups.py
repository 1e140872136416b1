"""A table with a row for each of several groups of requests."""

from collections.abc import Sequence

from loadtests.analysis.summary import Summary
from loadtests.report.wording import goodput, milliseconds, outcomes, percent

Table = tuple[Sequence[str], list[Sequence[str]]]

_NONE = "-"
_LATENCIES = (
    ("TTFT from due", "ttft_due", ("p50", "p95", "p99")),
    ("TPOT", "tpot", ("p50", "p99")),
    ("classify from due", "classify_due", ("p50", "p99")),
    ("embed from due", "embed_due", ("p50", "p99")),
)
_HEADER = (
    "",
    "offered",
    "offered/s",
    "answers/s",
    "tokens/s",
    "texts/s",
    *(f"{title} {q}" for title, _, quantiles in _LATENCIES for q in quantiles),
    "goodput",
    "of peak",
    "refused in, p99",
    "Retry-After",
    "not answered",
)


def group_table(groups: Sequence[Summary], names: Sequence[str] | None = None) -> Table:
    """Header and rows, latencies in ms; columns in which no group has a number are left out."""
    rows = [_row(name, group) for name, group in zip(names or _names(groups), groups, strict=True)]
    kept = [place for place in range(len(_HEADER)) if any(row[place] != _NONE for row in rows)]
    return [_HEADER[place] for place in kept], [[row[place] for place in kept] for row in rows]


def _names(groups: Sequence[Summary]) -> list[str]:
    return [group.name for group in groups]


def _row(name: str, group: Summary) -> Sequence[str]:
    came = group.throughput
    return (
        name,
        str(group.offered),
        f"{group.offered_per_s:.2f}",
        f"{came.answers_per_s:.2f}",
        f"{came.completion_tokens_per_s:.1f}" if came.completion_tokens_per_s else _NONE,
        f"{came.items_per_s:.1f}" if came.items_per_s else _NONE,
        *_latencies(group),
        goodput(group),
        percent(group.goodput.of_peak) if group.goodput else _NONE,
        *_refusals(group),
        outcomes(group),
    )


def _latencies(group: Summary) -> list[str]:
    cells = []
    for _, metric, quantiles in _LATENCIES:
        found = group.latency.get(metric)
        cells += [milliseconds(getattr(found, q)) if found else _NONE for q in quantiles]
    return cells


def _refusals(group: Summary) -> tuple[str, str]:
    if group.refusals is None:
        return _NONE, _NONE
    return milliseconds(group.refusals.latency.p99), percent(group.refusals.with_retry_after)
