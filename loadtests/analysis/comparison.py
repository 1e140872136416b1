"""Two servers (or two versions) on the same requests: differences, and their certainty."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from loadtests.analysis.latency import lag, token_gaps, tpot
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.statistics import QUANTILES, Values, least_samples
from loadtests.load.stage import WARMUP
from loadtests.protocol.record import Record

DRAWS = 2000
_BATCH = 200_000
_LEVEL = 0.95
# Neighbouring requests meet the same queue, so they are drawn in blocks of this share of a run.
_BLOCK = 0.02

# The place of a request in the plans of the rounds.
Key = tuple[int, int, int]


class Delta(BaseModel):
    """A number of both sides, its `change` and the 95% interval of the change.

    `change` is second/first - 1; of goodput, a share that may be 0, it is second - first.

    The verdict is about the second side. Its significance level is corrected for the number of
    deltas (Bonferroni): of twenty comparisons of a server with itself, at most one is expected to
    have any verdict other than "no difference".
    """

    model_config = ConfigDict(extra="forbid")

    metric: str
    statistic: str
    first: float
    second: float
    change: float
    interval: tuple[float, float]
    verdict: Literal["better", "worse", "no difference"]


@dataclass(frozen=True, slots=True)
class Side:
    """One side's requests by their place in the plan, ordered by planned send time."""

    name: str
    records: dict[Key, Record]


def side(name: str, rounds: Sequence[Sequence[Record]]) -> Side:
    """The measured requests of several rounds of one server."""
    records = {
        (number, record.index, record.turn): record
        for number, rows in enumerate(rounds)
        for record in sorted(rows, key=lambda r: (r.due, r.index, r.turn))
        if record.stage != WARMUP
    }
    return Side(name, records)


# Lower is better for latency, higher for goodput. Latencies count from the due instant: from the
# send, requests that a slow server delayed would look fast (coordinated omission).
_LATENCIES: dict[str, Callable[[Record], float | None]] = {
    "ttft_due": lambda r: r.chunks[0] + lag(r) if r.chunks else None,
    "itl": lambda r: float(np.mean(token_gaps(r))) if len(r.chunks) > 1 else None,
    "tpot": tpot,
    "e2e_due": lambda r: _whole(r, "generate"),
    "classify_due": lambda r: _whole(r, "classify"),
    "embed_due": lambda r: _whole(r, "embed"),
}
_STATISTICS = ("mean", "p50", "p90", "p99")


def compare(
    first: Side, second: Side, objectives: Objectives | None, *, paired: bool, seed: int = 0
) -> list[Delta]:
    """Every delta that has enough requests.

    If the comparison is paired, the bootstrap draws the same blocks of requests for both sides, so
    that differences between requests cancel out; else each side has its own draws. ITL is a
    request's mean. Goodput is also unpaired if one side got requests that the other did not.
    """
    found: list[tuple[str, str, float, float, Values]] = []
    rng = np.random.default_rng(seed)
    for metric, of in _LATENCIES.items():
        a, b = _values(first, second, of, paired)
        names = [s for s in _STATISTICS if min(len(a), len(b)) >= _least(s)]
        if names:
            found += _changes(metric, names, a, b, rng, paired)
    if objectives is not None:
        paired = paired and _same_requests(first, second)
        a, b = _met(first, second, objectives, paired)
        if min(len(a), len(b)) >= _least("mean"):
            found += _changes("goodput", ["mean"], a, b, rng, paired)
    return [_delta(*row, count=len(found)) for row in found]


def regressions(deltas: Sequence[Delta], limit: float) -> list[Delta]:
    """The deltas that are significantly worse, by more than `limit` (0.05 is 5%, or 5 points)."""
    return [d for d in deltas if d.verdict == "worse" and abs(d.change) > limit]


def _least(statistic: str) -> int:
    return least_samples(QUANTILES[statistic]) if statistic in QUANTILES else 10


def _whole(record: Record, task: str) -> float | None:
    return None if record.e2e is None or record.task != task else record.e2e + lag(record)


def _values(
    first: Side, second: Side, of: Callable[[Record], float | None], paired: bool
) -> tuple[Values, Values]:
    a, b = (
        {key: value for key, r in s.records.items() if r.ok and (value := of(r)) is not None}
        for s in (first, second)
    )
    if not paired:
        return np.array(list(a.values())), np.array(list(b.values()))
    both = [key for key in a if key in b]
    return np.array([a[key] for key in both]), np.array([b[key] for key in both])


def _same_requests(first: Side, second: Side) -> bool:
    """False after an early end, and in a closed loop, in which a faster server gets more."""
    lone = first.records.keys() ^ second.records.keys()
    return not any(turn == 0 for _, _, turn in lone)


def _met(first: Side, second: Side, objectives: Objectives, paired: bool) -> tuple[Values, Values]:
    """Success of each offered request: 1 if it met the objectives, else 0.

    If paired, a turn that only one side reached is missed by the other, whose session failed.
    """
    offered = [_offered(first, second)] * 2 if paired else [_offered(first), _offered(second)]
    a, b = (
        [float(key in side.records and objectives.met(side.records[key])) for key in keys]
        for side, keys in zip((first, second), offered, strict=True)
    )
    return np.array(a), np.array(b)


def _offered(*sides: Side) -> list[Key]:
    """The requests of the sides in order, without sessions whose client disconnected as planned.

    The rest of such a session exists only on a side where it failed earlier, which is chance.
    """
    records = {key: record for side in sides for key, record in side.records.items()}
    hung_up = {
        key[:2]
        for side in sides
        for key, record in side.records.items()
        if record.outcome == "cancelled"
    }
    kept = [key for key in records if key[:2] not in hung_up]
    return sorted(kept, key=lambda key: (key[0], records[key].due))


def _changes(
    metric: str, names: list[str], a: Values, b: Values, rng: np.random.Generator, paired: bool
) -> list[tuple[str, str, float, float, Values]]:
    """Each statistic of both sides, and its changes in DRAWS bootstrap samples."""
    changes: list[Values] = []
    batch = max(1, _BATCH // max(len(a), len(b)))
    for start in range(0, DRAWS, batch):
        draws = min(batch, DRAWS - start)
        mine = _resample(len(a), draws, rng)
        other = mine if paired else _resample(len(b), draws, rng)
        changes.append(_change(metric, _describe(a[mine], names), _describe(b[other], names)))
    drawn = np.concatenate(changes)
    before, after = _describe(a[None, :], names)[0], _describe(b[None, :], names)[0]
    return [
        (metric, name, float(before[i]), float(after[i]), drawn[:, i])
        for i, name in enumerate(names)
    ]


def _change(metric: str, first: Values, second: Values) -> Values:
    if metric == "goodput":
        return second - first
    with np.errstate(divide="ignore", invalid="ignore"):
        return second / first - 1


def _resample(count: int, draws: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Indices of circular block bootstrap samples (Politis and Romano, 1992), a row for each."""
    length = max(1, round(count * _BLOCK))
    starts = rng.integers(count, size=(draws, -(-count // length)))
    return ((starts[..., None] + np.arange(length)) % count).reshape(draws, -1)[:, :count]


def _describe(values: Values, names: list[str]) -> Values:
    """A column for each statistic of the rows of `values`, quantiles interpolated."""
    ranked = np.sort(values, axis=1)
    columns = []
    for name in names:
        if name == "mean":
            columns.append(ranked.mean(axis=1))
            continue
        place = QUANTILES[name] * (ranked.shape[1] - 1)
        low = int(place)
        high = min(low + 1, ranked.shape[1] - 1)
        columns.append(ranked[:, low] + (place - low) * (ranked[:, high] - ranked[:, low]))
    return np.stack(columns, axis=1)


def _delta(
    metric: str, statistic: str, first: float, second: float, drawn: Values, count: int
) -> Delta:
    change = float(_change(metric, np.array(first), np.array(second)))
    changes = drawn[np.isfinite(drawn)]
    if not np.isfinite(change) or len(changes) == 0:
        change, changes = 0.0, np.zeros(1)
    low, high = np.quantile(changes, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    sure = (1 - _LEVEL) / count / 2
    least, most = np.quantile(changes, [sure, 1 - sure])
    higher_is_worse = metric != "goodput"
    verdict: Literal["better", "worse", "no difference"] = "no difference"
    if least > 0 or most < 0:
        verdict = "worse" if (least > 0) == higher_is_worse else "better"
    return Delta(
        metric=metric,
        statistic=statistic,
        first=first,
        second=second,
        change=change,
        interval=(float(low), float(high)),
        verdict=verdict,
    )
