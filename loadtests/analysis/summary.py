"""The numbers of a group of requests: the whole run, a stage, an adapter, a tenant, a workload."""

from collections import Counter
from collections.abc import Callable, Sequence

from pydantic import BaseModel, ConfigDict

from loadtests.analysis.latency import distributions
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.statistics import Distribution, ratio_interval
from loadtests.protocol.record import Record


class Goodput(BaseModel):
    """Requests within all limits, over those offered; cancelled ones are not offered."""

    model_config = ConfigDict(extra="forbid")

    met: int
    offered: int
    ratio: float
    interval: tuple[float, float]
    per_s: float


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
