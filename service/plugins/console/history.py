"""The last ten minutes of the service, in bounded memory, for the console's live view."""

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any

from prometheus_client import CollectorRegistry

from service.plugins.console.snapshot import Snapshot

INTERVAL_S = 5.0
_POINTS = 120
_RECENT = 12
"""Snapshots that rates of the last minute are computed from."""
_WINDOW = 2
"""Snapshots that quantiles of latencies are computed from: ten seconds."""

_TTFT = "time_to_first_token_seconds"
_TPOT = "time_per_output_token_seconds"
_STEPS = "vllm:iteration_tokens_total_count"


@dataclass(frozen=True, slots=True)
class Point:
    """One interval of the charts; rates are per second, latencies in seconds."""

    at: float
    completion_tokens: float
    prompt_tokens: float
    in_flight: float
    queued: float
    flex_queued: float
    refused: float
    steps: float
    kv_cache: float | None
    ttft_p50: float | None
    ttft_p95: float | None
    tpot_p50: float | None
    tpot_p95: float | None


class History:
    """The last ten minutes as points for charts, and tables of the present state.

    Each call of `take` adds a point.
    """

    def __init__(
        self, registry: CollectorRegistry, read: Callable[..., Snapshot] = Snapshot.of
    ) -> None:
        self._registry = registry
        self._read = read
        self._points: deque[Point] = deque(maxlen=_POINTS)
        self._recent: deque[Snapshot] = deque([read(registry)], maxlen=_RECENT + 1)

    def take(self) -> None:
        """Add a point with the changes since the last snapshot."""
        now = self._read(self._registry)
        self._recent.append(now)
        self._points.append(self._point(now))

    def shown(self) -> dict[str, Any]:
        """The points as columns, and table rows for each engine, tenant, reason and adapter."""
        now, minute_ago = self._recent[-1], self._recent[0]
        columns = {
            field.name: [getattr(point, field.name) for point in self._points]
            for field in fields(Point)
        }
        return {
            "points": columns,
            "engines": _engines(now, self._before(1)),
            "tenants": _tenants(now, minute_ago),
            "refusals": _refusals(now, minute_ago),
            "adapters": _adapters(now),
        }

    def _before(self, intervals: int) -> Snapshot:
        """The snapshot from so many intervals before the last one, or the oldest one."""
        return self._recent[max(0, len(self._recent) - 1 - intervals)]

    def _point(self, now: Snapshot) -> Point:
        before, window = self._before(1), self._before(_WINDOW)

        def latency(histogram: str, share: float) -> float | None:
            found = now.quantile(histogram, share, window)
            return None if found is None else round(found, 4)

        kv = now.values.get(("vllm:kv_cache_usage_perc",))
        return Point(
            at=round(now.at, 1),
            completion_tokens=_rate(now, before, "tokens_total", "completion"),
            prompt_tokens=_rate(now, before, "tokens_total", "prompt"),
            in_flight=now.sum("requests_in_flight"),
            queued=now.sum("requests_queued"),
            flex_queued=now.sum("flex_requests_queued"),
            refused=_rate(now, before, "refusals_total"),
            steps=_rate(now, before, _STEPS),
            kv_cache=None if kv is None else round(kv, 4),
            ttft_p50=latency(_TTFT, 0.5),
            ttft_p95=latency(_TTFT, 0.95),
            tpot_p50=latency(_TPOT, 0.5),
            tpot_p95=latency(_TPOT, 0.95),
        )


def _rate(now: Snapshot, before: Snapshot, series: str, *labels: str) -> float:
    seconds = max(now.at - before.at, 0.001)
    return round((now.sum(series, *labels) - before.sum(series, *labels)) / seconds, 2)


def _engines(now: Snapshot, before: Snapshot) -> list[dict[str, Any]]:
    limits, ages = dict(now.by("admission_limit")), dict(now.by("engine_progress_age_seconds"))
    made, had = dict(now.by(_STEPS)), dict(before.by(_STEPS))
    seconds = max(now.at - before.at, 0.001)
    return [
        {
            "engine": engine,
            "in_flight": value,
            "limit": limits.get(engine),
            "steps": round((made.get(engine, 0) - had.get(engine, 0)) / seconds, 2),
            "step_age": round(ages.get(engine, 0), 1),
        }
        for engine, value in sorted(now.by("requests_in_flight"))
    ]


def _tenants(now: Snapshot, before: Snapshot) -> list[dict[str, Any]]:
    """Tenants with their tokens a second of the last minute, the busiest first.

    `due` is the tenant's part of the weights of all tenants that wait or were served in this
    minute: its part of the service while all of these want more than they get.
    """
    queued, flex = dict(now.by("requests_queued")), dict(now.by("flex_requests_queued"))
    kinds = ("prompt", "completion")
    used = {kind: dict(now.by("tokens_total", kind)) for kind in kinds}
    had = {kind: dict(before.by("tokens_total", kind)) for kind in kinds}
    served = {*used["prompt"], *used["completion"]}
    seconds = max(now.at - before.at, 0.001)
    rows: list[dict[str, Any]] = [
        {
            "tenant": name,
            "queued": queued.get(name, 0),
            "flex_queued": flex.get(name, 0),
            "tokens": round(
                sum(used[kind].get(name, 0) - had[kind].get(name, 0) for kind in kinds) / seconds, 2
            ),
        }
        for name in {*queued, *flex, *served}
        if name in served or queued.get(name) or flex.get(name)
    ]
    weights = dict(now.by("tenant_weight"))
    busy = {row["tenant"]: weights.get(row["tenant"], 1.0) for row in rows if _wants(row)}
    for row in rows:
        row["due"] = round(busy.get(row["tenant"], 0.0) / sum(busy.values()), 4) if busy else 0.0
    return sorted(rows, key=lambda row: (-row["tokens"], row["tenant"]))


def _wants(row: Mapping[str, Any]) -> bool:
    return bool(row["tokens"] or row["queued"] or row["flex_queued"])


def _refusals(now: Snapshot, before: Snapshot) -> list[dict[str, Any]]:
    had = dict(before.by("refusals_total"))
    rows = [
        {"reason": reason, "last_minute": total - had.get(reason, 0), "total": total}
        for reason, total in now.by("refusals_total")
    ]
    return sorted(rows, key=lambda row: (-row["last_minute"], -row["total"], row["reason"]))


def _adapters(now: Snapshot) -> list[dict[str, Any]]:
    names = sorted({key[1] for key in now.values if key[0] == "adapter_state"})
    hits, misses = dict(now.by("adapter_hits_total")), dict(now.by("adapter_misses_total"))
    resident, proofs = dict(now.by("adapter_resident")), dict(now.by("adapter_proof_accuracy"))
    return [
        {
            "adapter": name,
            "state": next((s for s, on in now.by("adapter_state", name) if on), None),
            "version": next((version for version, _ in now.by("adapter_info", name)), None),
            "proof": proofs.get(name),
            "resident": bool(resident.get(name)),
            "hits": hits.get(name, 0),
            "misses": misses.get(name, 0),
        }
        for name in names
    ]
