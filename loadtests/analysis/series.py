"""Data of the report's plots: distributions, and numbers over the time of the run."""

import math
from collections.abc import Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from loadtests.analysis.latency import samples
from loadtests.analysis.run import Sample
from loadtests.protocol.record import Record

_POINTS = 101
_BUCKETS = 120
_CURVES = (
    *("ttft", "ttft_due", "itl", "tpot", "e2e", "e2e_due"),
    *("classify", "classify_due", "embed", "embed_due"),
)


class Bucket(BaseModel):
    """An interval of the run: requests that were sent in it, tokens of answers that ended in it."""

    model_config = ConfigDict(extra="forbid")

    at: float
    sent: int
    ok: int
    failed: int
    tokens_per_s: float
    in_flight: float
    ttft: float | None


def curves(records: Sequence[Record]) -> dict[str, list[float]]:
    """Each metric's value at every percent, for its cumulative distribution."""
    found = samples(records)
    percents = np.linspace(0, 100, _POINTS)
    return {
        name: [round(float(v), 6) for v in np.percentile(found[name][0], percents)]
        for name in _CURVES
        if len(found[name][0]) > 1
    }


def timeline(records: Sequence[Record], watched: Sequence[Sample], seconds: float) -> list[Bucket]:
    """Buckets of whole seconds, at most 120 of them; TTFT is the bucket's median."""
    width = max(1, math.ceil(seconds / _BUCKETS))
    count = max(1, math.ceil(seconds / width))
    by_start: list[list[Record]] = [[] for _ in range(count)]
    tokens = [0] * count
    for record in records:
        start = record.due if record.sent is None else record.sent
        by_start[_bucket(start, width, count)].append(record)
        if record.ok and record.e2e is not None:
            tokens[_bucket(start + record.e2e, width, count)] += record.tokens
    flying = [0.0] * count
    for sample in watched:
        flying[_bucket(sample.at, width, count)] += sample.in_flight * sample.seconds / width
    buckets = []
    for position, rows in enumerate(by_start):
        firsts = [record.chunks[0] for record in rows if record.ok and record.chunks]
        ok = sum(record.ok for record in rows)
        cancelled = sum(record.outcome == "cancelled" for record in rows)
        buckets.append(
            Bucket(
                at=float(position * width),
                sent=len(rows),
                ok=ok,
                failed=len(rows) - ok - cancelled,
                tokens_per_s=tokens[position] / width,
                in_flight=flying[position],
                ttft=float(np.median(firsts)) if firsts else None,
            )
        )
    return buckets


def _bucket(at: float, width: int, count: int) -> int:
    return min(max(int(at // width), 0), count - 1)
