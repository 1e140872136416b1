"""Validity of a run: checks that it measured the server and not the load generator."""

from collections.abc import Callable

import numpy as np
from pydantic import BaseModel, ConfigDict

from loadtests.analysis.latency import lag
from loadtests.analysis.run import Run
from loadtests.load.scenario import ClosedLoad
from loadtests.protocol.record import Record

# Outcomes after which only the server knows if the request was finished.
_UNKNOWN = {"cancelled", "reset", "timeout", "truncated", "unreachable", "unfinished"}

_CLOSED = "a closed loop sends when it can"


class Check(BaseModel):
    """One reason to distrust a run; `passed` is null if it could not be checked."""

    model_config = ConfigDict(extra="forbid")

    name: str
    passed: bool | None
    value: float | None = None
    limit: float | None = None
    message: str


def validity(run: Run) -> list[Check]:
    """Every check, the most important first."""
    checks: list[Callable[[Run], Check]] = [
        _complete,
        _send_lag_median,
        _send_lag_tail,
        _worker_cpu,
        _achieved,
        _dropped,
        _little,
        _server_requests,
        _server_tokens,
    ]
    return [check(run) for check in checks]


def _complete(run: Run) -> Check:
    return Check(
        name="complete",
        passed=run.stopped is None or run.doomed,
        message=run.stopped or "the whole plan was run",
    )


def _send_lag_median(run: Run) -> Check:
    return _send_lag(run, 50, run.scenario.validity.send_lag_p50_ms)


def _send_lag_tail(run: Run) -> Check:
    return _send_lag(run, 99, run.scenario.validity.send_lag_p99_ms)


def _send_lag(run: Run, percent: int, limit: float) -> Check:
    """Lateness of requests, with a limit that does not depend on the server's speed."""
    name = f"send_lag_p{percent}_ms"
    lags = [lag(record) * 1000 for record in run.of_load() if record.sent is not None]
    if isinstance(run.scenario.load, ClosedLoad) or not lags:
        return Check(name=name, passed=None, limit=limit, message=_CLOSED if lags else "none sent")
    value = float(np.percentile(lags, percent))
    message = f"p{percent} of the time from due to sent was {value:.1f} ms, at most {limit:g}"
    return _at_most(name, value, limit, message)


def _worker_cpu(run: Run) -> Check:
    """The busiest worker's mean share of a core: beyond it reads come late."""
    limit = run.scenario.validity.worker_cpu
    used: dict[int, tuple[float, float]] = {}
    for sample in run.samples:
        busy, seconds = used.get(sample.worker, (0.0, 0.0))
        used[sample.worker] = (busy + sample.cpu * sample.seconds, seconds + sample.seconds)
    shares = [busy / seconds for busy, seconds in used.values() if seconds > 0]
    if not shares:
        return Check(name="worker_cpu", passed=False, limit=limit, message="no worker was seen")
    message = f"the busiest worker took {max(shares):.2f} of a core, at most {limit:g}"
    return _at_most("worker_cpu", max(shares), limit, message)


def _achieved(run: Run) -> Check:
    limit = run.scenario.validity.achieved_ratio
    planned = sum(run.offered.values())
    if not planned or run.doomed:
        message = "ended early, as asked" if run.doomed else _CLOSED
        return Check(name="achieved_ratio", passed=None, limit=limit, message=message)
    sent = sum(1 for r in run.of_load() if r.sent is not None and r.turn == 0)
    return Check(
        name="achieved_ratio",
        passed=sent / planned >= limit,
        value=sent / planned,
        limit=limit,
        message=f"{sent} of {planned} planned requests were sent",
    )


def _dropped(run: Run) -> Check:
    dropped = sum(1 for record in run.records if record.outcome == "dropped")
    return _at_most(
        "dropped", dropped, 0, f"{dropped} requests that the client had no room to send"
    )


def _little(run: Run) -> Check:
    """L = lambda * W (Little, 1961): sampled requests in flight, compared with the records' times.

    They differ if records were lost or if requests waited in the client's own queues.
    """
    limit = run.scenario.validity.little_error
    sampled = sum(sample.in_flight * sample.seconds for sample in run.samples)
    recorded = sum(record.e2e or 0.0 for record in run.records)
    if recorded == 0 or sampled == 0:
        return Check(name="little_error", passed=False, limit=limit, message="nothing in flight")
    error = abs(sampled - recorded) / recorded
    return _at_most(
        "little_error",
        error,
        limit,
        f"{sampled:.1f} request-seconds sampled, {recorded:.1f} recorded",
    )


def _server_requests(run: Run) -> Check:
    by_prompt = run.server is not None and run.server.words == "vllm"

    def low(record: Record) -> int:
        if by_prompt:
            return max(1, record.items) if record.ok else 0
        # The server may not have noticed yet a request that was cut off at the end of the run.
        return int(record.status is not None and record.outcome != "unfinished")

    def high(record: Record) -> int:
        return max(1, record.items) if record.outcome in _UNKNOWN else low(record)

    server = None if run.server is None else run.server.requests
    return _reconcile("server_requests", run, server, low, high)


def _server_tokens(run: Run) -> Check:
    def low(record: Record) -> int:
        return record.completion_tokens or 0

    def high(record: Record) -> float:
        # Two counts are unknown: tokens that were made after the client left, and those of a
        # batch of texts, where the server counts one for each read and the answer has no count.
        unsaid = record.ok and (record.completion_tokens is None or record.task != "generate")
        return np.inf if unsaid or record.outcome in _UNKNOWN | {"stream_error"} else low(record)

    server = None if run.server is None else run.server.completion_tokens
    return _reconcile("server_completion_tokens", run, server, low, high)


def _reconcile(
    name: str,
    run: Run,
    server: float | None,
    low: Callable[[Record], float],
    high: Callable[[Record], float],
) -> Check:
    """Check that the server's count lies within the bounds that our records allow."""
    limit = run.scenario.validity.counter_error
    if server is None:
        return Check(name=name, passed=None, limit=limit, message=f"not compared: {run.unread}")
    least = sum(map(low, run.records))
    # The server also counts the lines of a batch, and those that it asked again.
    most = np.inf if run.batch is not None else sum(map(high, run.records))
    gap = max(least - server, server - most, 0.0)
    error = gap / max(least, server, 1.0)
    expected = f"{least:.0f}" if least == most else f"{least:.0f} to {most:.0f}"
    if most == np.inf:
        expected = f"at least {least:.0f}"
    return _at_most(name, error, limit, f"the server counted {server:.0f}, we {expected}")


def _at_most(name: str, value: float, limit: float, message: str) -> Check:
    return Check(name=name, passed=value <= limit, value=value, limit=limit, message=message)


def invalid(checks: list[Check]) -> list[Check]:
    """The checks that failed."""
    return [check for check in checks if check.passed is False]
