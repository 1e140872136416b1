"""The figures of a result."""

from collections.abc import Sequence

from loadtests.analysis.counters import GAUGES
from loadtests.analysis.result import Result
from loadtests.analysis.summary import Summary
from loadtests.report.svg import Curve, Mark, chart
from loadtests.report.wording import LATENCIES

_CACHE = "vllm:kv_cache_usage_perc"


def figures(result: Result) -> list[str]:
    """Every chart for which the result has numbers, as SVG figures."""
    drawn = [
        _distribution(result, "Time to first token", ("ttft", "ttft_due")),
        _distribution(result, "Time between tokens", ("itl", "tpot")),
        _distribution(result, "Whole requests", ("e2e", "classify", "embed")),
        _rate_latency(result.stages),
        _goodput(result.stages),
        _pareto(result.stages),
        *_timeline(result),
    ]
    return [figure for figure in drawn if figure]


def _distribution(result: Result, title: str, names: Sequence[str]) -> str:
    curves = [
        Curve(
            LATENCIES[name],
            [(value * 1000, position / 100) for position, value in enumerate(result.curves[name])],
        )
        for name in names
        if name in result.curves
    ]
    return chart(f"{title}: share of samples below", "ms", "share", curves, log_x=True)


def _rate_latency(stages: Sequence[Summary]) -> str:
    """The knee: latency against offered rate."""
    if len(stages) < 2:
        return ""
    curves = []
    for quantile in ("p50", "p90", "p99"):
        points = []
        for stage in stages:
            first = stage.latency.get("ttft_due")
            value = getattr(first, quantile) if first else None
            if value is not None:
                points.append((stage.offered_per_s, value * 1000))
        if points:
            curves.append(Curve(f"TTFT from due, {quantile}", sorted(points), dots=True))
    return chart("Latency against offered rate", "offered requests/s", "ms", curves)


def _goodput(stages: Sequence[Summary]) -> str:
    ordered = sorted(stages, key=lambda stage: stage.offered_per_s)
    rows = [(s.offered_per_s, s.goodput, s) for s in ordered if s.goodput is not None]
    if len(rows) < 2:
        return ""
    curves = [
        Curve("offered", [(rate, rate) for rate, _, _ in rows]),
        Curve("answered", [(r, s.throughput.answers_per_s) for r, _, s in rows], dots=True),
        Curve("within the SLO", [(rate, good.per_s) for rate, good, _ in rows], dots=True),
    ]
    return chart("Goodput against offered rate", "offered requests/s", "requests/s", curves)


def _pareto(stages: Sequence[Summary]) -> str:
    """Throughput against latency, a point for each stage; no stage beats the front on both."""
    points = []
    for stage in sorted(stages, key=lambda stage: stage.offered_per_s):
        whole = (stage.latency.get(name) for name in ("e2e_due", "classify_due", "embed_due"))
        found = next(filter(None, whole), None)
        if found is not None and found.p95 is not None:
            points.append((stage.throughput.answers_per_s, found.p95 * 1000))
    if len(points) < 2:
        return ""
    front = [
        (rate, late)
        for rate, late in points
        if not any(other > rate and sooner <= late for other, sooner in points)
    ]
    curves = [
        Curve("each rate", points, dots=True),
        Curve("no other rate is better", sorted(front), dots=True),
    ]
    title = "Throughput against latency, p95 from due"
    return chart(title, "answers/s", "ms", curves)


def _timeline(result: Result) -> list[str]:
    buckets = result.timeline
    width = buckets[1].at - buckets[0].at if len(buckets) > 1 else 1.0
    marks = [Mark(at, name) for name, at in result.stage_starts.items()]
    if result.disturbed_at is not None:
        marks.append(Mark(result.disturbed_at, "disturbance"))
    requests = [
        Curve("sent/s", [(b.at, b.sent / width) for b in buckets]),
        Curve("of these ok/s", [(b.at, b.ok / width) for b in buckets]),
        Curve("of these failed/s", [(b.at, b.failed / width) for b in buckets]),
    ]
    first = [Curve("TTFT, median", [(b.at, b.ttft * 1000) for b in buckets if b.ttft is not None])]
    tokens = [Curve("output tokens/s", [(b.at, b.tokens_per_s) for b in buckets])]
    flying = [Curve("in flight", [(b.at, b.in_flight) for b in buckets])]
    own = {name: Curve(GAUGES[name], points) for name, points in result.gauges.items()}
    cache = [own.pop(_CACHE)] if _CACHE in own else []
    counts = list(own.values())
    seconds = "seconds from the start"
    return [
        chart("Requests over time", seconds, "requests/s", requests, marks=marks),
        chart("First token over time", seconds, "ms", first, marks=marks),
        chart("Output over time", seconds, "tokens/s", tokens, marks=marks),
        chart("In flight over time", seconds, "requests", flying, marks=marks),
        chart("The server's own counts over time", seconds, "requests", counts, marks=marks),
        chart("KV cache over time", seconds, "share", cache, marks=marks),
    ]
