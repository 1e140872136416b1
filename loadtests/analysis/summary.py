"""The numbers of a group of requests: the whole run, a stage, an adapter, a tenant, a workload."""

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from pydantic import BaseModel, ConfigDict

from loadtests.analysis.latency import distributions
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.statistics import Distribution, describe, ratio_interval
from loadtests.protocol.record import Record


class Goodput(BaseModel):
    """Requests within all limits, over those offered; cancelled ones are not offered.

    `of_peak` is a stage's `per_s` over that of the best stage.
    """

    model_config = ConfigDict(extra="forbid")

    met: int
    offered: int
    ratio: float
    interval: tuple[float, float]
    per_s: float
    of_peak: float | None = None


class Refusals(BaseModel):
    """Requests answered 429 or 503: how soon, from the send, and the share with Retry-After."""

    model_config = ConfigDict(extra="forbid")

    count: int
    with_retry_after: float
    latency: Distribution


class Summary(BaseModel):
    """Counts, rates (per second of `seconds`) and latencies (in seconds) of a group."""

    model_config = ConfigDict(extra="forbid")

    name: str
    seconds: float
    offered: int
    outcomes: dict[str, int]
    offered_per_s: float
    answered_per_s: float
    prompt_tokens_per_s: float
    completion_tokens_per_s: float
    items_per_s: float
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    goodput: Goodput | None
    refusals: Refusals | None
    latency: dict[str, Distribution]


def summarize(
    name: str,
    records: Sequence[Record],
    seconds: float,
    objectives: Objectives | None,
    missing: int = 0,
) -> Summary:
    """`missing` requests were planned but left no record: offered all the same."""
    ok = [record for record in records if record.ok]
    outcomes = Counter(record.outcome for record in records)
    offered = len(records) + missing - outcomes["cancelled"]
    prompt = sum(record.prompt_tokens or 0 for record in ok)
    completion = sum(record.tokens for record in ok)
    return Summary(
        name=name,
        seconds=seconds,
        offered=offered,
        outcomes=dict(sorted(outcomes.items())),
        offered_per_s=offered / seconds,
        answered_per_s=len(ok) / seconds,
        prompt_tokens_per_s=prompt / seconds,
        completion_tokens_per_s=completion / seconds,
        items_per_s=sum(record.items for record in ok) / seconds,
        prompt_tokens=prompt,
        cached_tokens=sum(record.cached_tokens or 0 for record in ok),
        completion_tokens=completion,
        goodput=_goodput(records, offered, seconds, objectives),
        refusals=_refusals(records),
        latency=distributions(records),
    )


def grouped(
    records: Sequence[Record],
    key: Callable[[Record], str],
    seconds: float,
    objectives: Objectives | None,
) -> list[Summary]:
    """A summary of each group by name."""
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(key(record), []).append(record)
    return [summarize(name, rows, seconds, objectives) for name, rows in sorted(groups.items())]


def against_peak(stages: Sequence[Summary]) -> list[Summary]:
    """The stages, each with its goodput relative to that of the best."""
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
