"""Result of a run: one document for readers, pipelines and the report."""

import os
import platform
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from loadtests.analysis.beside import Beside, judge_beside
from loadtests.analysis.breakdown import Breakdown, break_down
from loadtests.analysis.compat import Block, compat
from loadtests.analysis.fairness import fairness
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.run import Run
from loadtests.analysis.series import Bucket, timeline
from loadtests.analysis.summary import measured
from loadtests.analysis.throughput import windows
from loadtests.analysis.validity import Check, invalid, validity
from loadtests.load.background import Neighbour
from loadtests.load.scenario import ClosedLoad
from loadtests.load.stage import WARMUP
from loadtests.protocol.record import Record

SCHEMA_VERSION: Final = 3

# A window ends before its end, and the last answer is to be in it.
_JUST_AFTER_S = 0.001


class Exit(IntEnum):
    """Exit code of the process."""

    OK = 0
    FAILURES = 1
    SLO_MISSED = 3
    INVALID = 4


class Verdict(BaseModel):
    """The exit code and its reasons."""

    model_config = ConfigDict(extra="forbid")

    exit_code: int
    status: str
    reasons: list[str]


class Result(Breakdown):
    """A run's measured numbers; times in seconds, rates per second."""

    schema_version: Literal[3]
    scenario: dict[str, Any]
    target: dict[str, str]
    started_at: str
    command: str
    machine: dict[str, str]
    verdict: Verdict
    validity: list[Check]
    objectives: Objectives | None
    compat: dict[str, Block]
    timeline: list[Bucket]
    stage_starts: dict[str, float]
    disturbed_at: float | None
    errors: dict[str, int]
    gauges: dict[str, list[tuple[float, float]]] = Field(default_factory=dict)
    releases: dict[str, str] = Field(default_factory=dict)
    beside: Beside | None = None


def conclude(run: Run, objectives: Objectives | None) -> Result:
    """The result of a run.

    Warm-up requests count in the validity checks; those answered after the warm-up also count in
    the throughput.
    """
    of_load = run.of_load()
    records = measured(of_load)
    seen = {stage: 0 for stage in run.offered}
    for record in of_load:
        if record.turn == 0 and record.stage in seen:
            seen[record.stage] += 1
    missing = {
        stage: 0 if run.doomed else max(0, planned - seen[stage])
        for stage, planned in run.offered.items()
        if stage != WARMUP
    }
    starts = {stage.name: stage.start for stage in run.scenario.stages}
    parts = break_down(
        "all",
        of_load,
        windows(starts, measured_seconds(run), _stages(run)),
        objectives,
        run.scenario.tenants,
        missing,
    )
    if isinstance(run.scenario.beside, Neighbour):
        # Its tokens count in the tenants' shares, and in no other number of the load.
        parts.fairness = fairness(measured(run.records), run.scenario.callers)
    checks = validity(run)
    beside = judge_beside(run, parts.stages)
    return Result(
        schema_version=SCHEMA_VERSION,
        scenario=run.scenario.model_dump(mode="json"),
        target={"host": run.target.host, "api": run.target.api, "model": run.target.model},
        started_at=run.started_at,
        command=run.command,
        machine=_machine(),
        verdict=_verdict(run, parts, checks, objectives, beside),
        validity=checks,
        objectives=objectives,
        compat=compat(records),
        timeline=timeline(run.records, run.samples, max(1.0, _end(run))),
        stage_starts=starts,
        disturbed_at=run.disturbed_at,
        errors=_errors(measured(run.records)),
        gauges=run.gauges,
        releases=run.releases,
        beside=beside,
        **dict(parts),
    )


def measured_seconds(run: Run) -> float:
    """Seconds in which requests were sent, without the warm-up.

    If each user sends a fixed number of requests, it is the seconds until the last answer.
    """
    if _is_counted(run):
        return _end(run) + _JUST_AFTER_S
    warmup = sum(stage.seconds for stage in run.scenario.stages if stage.name == WARMUP)
    planned = run.scenario.duration_s
    sent = [record.sent for record in run.records if record.sent is not None]
    last = max(sent, default=planned)
    whole = min(planned, last) if run.stopped else planned
    return max(whole - warmup, 1e-9)


def _is_counted(run: Run) -> bool:
    load = run.scenario.load
    return isinstance(load, ClosedLoad) and load.requests is not None


def _end(run: Run) -> float:
    """Seconds until the last answer."""
    return max(((r.sent or 0.0) + (r.e2e or 0.0) for r in run.records), default=0.0)


def _stages(run: Run) -> dict[str, float]:
    """Durations of the measured stages, in order."""
    if _is_counted(run):
        (stage,) = run.scenario.stages
        return {stage.name: measured_seconds(run)}
    return {stage.name: stage.seconds for stage in run.scenario.stages if stage.name != WARMUP}


def _verdict(
    run: Run,
    parts: Breakdown,
    checks: list[Check],
    objectives: Objectives | None,
    beside: Beside | None,
) -> Verdict:
    overall = parts.overall
    doubts = [f"{check.name}: {check.message}" for check in invalid(checks)]
    doubts += beside.doubts() if beside else []
    harmless = {"ok", "cancelled", *run.scenario.tolerate}
    if run.doomed:
        # The early end of the run cut these off, not the server.
        harmless.add("unfinished")
    failed = sum(count for name, count in overall.outcomes.items() if name not in harmless)
    if doubts:
        return Verdict(exit_code=Exit.INVALID, status="invalid", reasons=doubts)
    if failed > run.scenario.max_failure_ratio * max(overall.offered, 1):
        reason = f"{failed} of {overall.offered} requests failed"
        return Verdict(exit_code=Exit.FAILURES, status="failures", reasons=[reason])
    if refused := _refused_within_share(parts):
        return Verdict(exit_code=Exit.FAILURES, status="failures", reasons=refused)
    if undecided := _otherwise_released(run):
        return Verdict(exit_code=Exit.FAILURES, status="failures", reasons=undecided)
    if beside and (unanswered := beside.failures()):
        return Verdict(exit_code=Exit.FAILURES, status="failures", reasons=unanswered)
    missed = beside.slower() if beside else []
    good = overall.goodput
    if objectives is not None and good is not None and good.ratio < objectives.goodput:
        missed.append(
            f"goodput {good.ratio:.3f} is below {objectives.goodput:g} "
            f"({good.met} of {good.offered} within {objectives.name})"
        )
    if missed:
        return Verdict(exit_code=Exit.SLO_MISSED, status="slo missed", reasons=missed)
    return Verdict(exit_code=Exit.OK, status="ok", reasons=[])


def _refused_within_share(parts: Breakdown) -> list[str]:
    """Refusals of tenants within their share, which fail a run in every scenario."""
    within = parts.fairness.within_share()
    return [
        f"tenant {tenant.name} asked for no more than its share, and "
        f"{tenant.outcomes['refused']} of its {tenant.offered} requests were refused"
        for tenant in parts.tenants
        if tenant.name in within and tenant.outcomes.get("refused")
    ]


def _otherwise_released(run: Run) -> list[str]:
    """Releases whose state is not the one that the scenario expects."""
    return [
        f"the release of {name} is {run.releases.get(name, 'not known')}, expected {expected}"
        for name, expected in run.scenario.releases.items()
        if run.releases.get(name) != expected
    ]


def _errors(records: Sequence[Record]) -> dict[str, int]:
    """The ten most frequent messages of failures."""
    counts: dict[str, int] = {}
    for record in records:
        if record.error:
            key = f"{record.outcome}: {record.error}"[:160]
            counts[key] = counts.get(key, 0) + 1
    return dict(sorted(counts.items(), key=lambda item: -item[1])[:10])


def _machine() -> dict[str, str]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "architecture": platform.machine(),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
    }
