"""The numbers of a group of requests: the whole run, a stage, an adapter, a tenant, a workload."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from loadtests.analysis.latency import distributions
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.statistics import Distribution, describe, ratio_interval
from loadtests.analysis.throughput import Throughput, Window, throughput
from loadtests.load.stage import WARMUP
from loadtests.protocol.record import Record


class Goodput(BaseModel):
    """Requests within all limits, as a share of those offered, without cancelled ones.

    `per_s` is `met` per second of sending; `of_peak` is a stage's `per_s` over that of the best
    stage.
    """

    model_config = ConfigDict(extra="forbid")

    met: int
    offered: int
    ratio: float
    interval: tuple[float, float]
    per_s: float
    of_peak: float | None = None


class Refusals(BaseModel):
    """Requests answered 429 or 503: seconds from the send, and the share with Retry-After."""

    model_config = ConfigDict(extra="forbid")

    count: int
    with_retry_after: float
    latency: Distribution


class Summary(BaseModel):
    """Counts and latencies (in seconds) of the requests that a group sent in `window_s` seconds.

    Only `throughput` counts answers that came within these seconds instead: also answers to
    requests of earlier stages, but none that came later.
    """

    model_config = ConfigDict(extra="forbid")

    name: str
    window_s: float
    offered: int
    outcomes: dict[str, int]
    offered_per_s: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    throughput: Throughput
    goodput: Goodput | None
    refusals: Refusals | None
    latency: dict[str, Distribution]


def measured(records: Sequence[Record]) -> list[Record]:
    """The requests after the warm-up."""
    return [record for record in records if record.stage != WARMUP]


def summarize(
    name: str,
    records: Sequence[Record],
    answers: Sequence[Record],
    window: Window,
    objectives: Objectives | None,
    missing: int = 0,
) -> Summary:
    """The numbers of `records`; the throughput is that of `answers`.

    `missing` is the number of planned requests without a record, which count as offered.
    """
    ok = [record for record in records if record.ok]
    outcomes = Counter(record.outcome for record in records)
    offered = len(records) + missing - outcomes["cancelled"]
    return Summary(
        name=name,
        window_s=window.seconds,
        offered=offered,
        outcomes=dict(sorted(outcomes.items())),
        offered_per_s=offered / window.seconds,
        prompt_tokens=sum(record.prompt_tokens or 0 for record in ok),
        cached_tokens=sum(record.cached_tokens or 0 for record in ok),
        completion_tokens=sum(record.tokens for record in ok),
        throughput=throughput(answers, window),
        goodput=_goodput(records, offered, window.seconds, objectives),
        refusals=_refusals(records),
        latency=distributions(records),
    )


def grouped(
    records: Sequence[Record],
    key: Callable[[Record], str],
    window: Window,
    objectives: Objectives | None,
) -> list[Summary]:
    """A summary of each group by name, except for groups with warm-up requests only."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return [
        summarize(name, own, rows, window, objectives)
        for name, rows in sorted(groups.items())
        if (own := measured(rows))
    ]


def against_peak(stages: Sequence[Summary]) -> list[Summary]:
    """The stages, each with its goodput as a share of the best stage's."""
    peak = max((stage.goodput.per_s for stage in stages if stage.goodput), default=0.0)
    if not peak:
        return list(stages)
    return [_of_peak(stage, peak) for stage in stages]


def _of_peak(stage: Summary, peak: float) -> Summary:
    if stage.goodput is None:
        return stage
    share = stage.goodput.per_s / peak
    return stage.model_copy(update={"goodput": stage.goodput.model_copy(update={"of_peak": share})})


def _refusals(records: Sequence[Record]) -> Refusals | None:
    refused = [record for record in records if record.outcome == "refused"]
    if not refused:
        return None
    told = sum(record.retry_after is not None for record in refused)
    waits = np.asarray([record.e2e for record in refused], dtype=np.float64)
    return Refusals(
        count=len(refused), with_retry_after=told / len(refused), latency=describe(waits)
    )


def _goodput(
    records: Sequence[Record], offered: int, seconds: float, objectives: Objectives | None
) -> Goodput | None:
    if objectives is None or offered == 0:
        return None
    met = sum(map(objectives.met, records))
    return Goodput(
        met=met,
        offered=offered,
        ratio=met / offered,
        interval=ratio_interval(met, offered),
        per_s=met / seconds,
    )
