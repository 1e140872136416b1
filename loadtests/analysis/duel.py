"""The result of comparing two servers or two results."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict

from loadtests.analysis.breakdown import Breakdown, break_down
from loadtests.analysis.comparison import DRAWS, Delta, compare, regressions, side
from loadtests.analysis.objectives import Objectives
from loadtests.analysis.result import SCHEMA_VERSION, Exit, Result
from loadtests.analysis.throughput import windows
from loadtests.load.choice import Tenant
from loadtests.protocol.record import Record

# A round of one server: its result and its requests.
Round = tuple[Result, list[Record]]


class Contender(Breakdown):
    """One side's numbers over all rounds."""

    name: str
    target: dict[str, str]


class Duel(BaseModel):
    """Both sides, their differences, and doubts about the comparison.

    `answers_per_s` has both sides' rates in each round of a closed load, in which users wait for
    answers.
    """

    model_config = ConfigDict(extra="forbid")

    schema_version: Literal[3]
    scenario: str
    started_at: str
    command: str
    machine: dict[str, str]
    rounds: int
    paired: bool
    draws: int
    first: Contender
    second: Contender
    deltas: list[Delta]
    answers_per_s: list[tuple[float, float]] = []
    doubts: list[str]
    failures: list[str]

    def exit_code(self, max_regress: float | None) -> Exit:
        """INVALID for doubts, else FAILURES, else SLO_MISSED for a regression beyond the limit."""
        if self.doubts:
            return Exit.INVALID
        if self.failures:
            return Exit.FAILURES
        if max_regress is not None and regressions(self.deltas, max_regress):
            return Exit.SLO_MISSED
        return Exit.OK


def judge(
    first: Sequence[Round],
    second: Sequence[Round],
    objectives: Objectives | None,
    names: tuple[str, str],
    command: str,
) -> Duel:
    """Compare rounds of two servers; paired when both sides ran the same plans."""
    plans = [[_plan(result) for result, _ in rounds] for rounds in (first, second)]
    paired = plans[0] == plans[1]
    sides = [side(n, [r for _, r in s]) for n, s in zip(names, (first, second), strict=True)]
    one = first[0][0]
    results = [
        (name, result)
        for name, rounds in zip(names, (first, second), strict=True)
        for result, _ in rounds
    ]
    return Duel(
        schema_version=SCHEMA_VERSION,
        scenario=str(one.scenario["name"]),
        started_at=one.started_at,
        command=command,
        machine=one.machine,
        rounds=len(first),
        paired=paired,
        draws=DRAWS,
        first=_contender(names[0], first, objectives),
        second=_contender(names[1], second, objectives),
        deltas=compare(sides[0], sides[1], objectives, paired=paired),
        answers_per_s=_answers_per_s(first, second) if _is_closed(one) else [],
        doubts=_reasons(results, Exit.INVALID),
        failures=_reasons(results, Exit.FAILURES),
    )


def _plan(result: Result) -> tuple[object, ...]:
    """Fields that decide the requests.

    The names of adapters and the fields added to a body may differ from server to server, so only
    the number of the adapters counts.
    """
    scenario = result.scenario
    workloads = [{**each, "extra": None} for each in scenario["workloads"]]
    adapters = scenario["adapters"]
    if adapters is not None:
        adapters = {**adapters, "names": len(adapters["names"])}
    decided = (scenario[name] for name in ("seed", "load", "tenants"))
    return *decided, workloads, adapters, scenario.get("beside")


def _is_closed(result: Result) -> bool:
    return bool(result.scenario["load"]["kind"] == "closed")


def _answers_per_s(first: Sequence[Round], second: Sequence[Round]) -> list[tuple[float, float]]:
    rates = [
        [each.overall.throughput.answers_per_s for each, _ in side] for side in (first, second)
    ]
    return list(zip(*rates, strict=True))


def _reasons(results: Sequence[tuple[str, Result]], code: Exit) -> list[str]:
    return [
        f"{name}: {reason}"
        for name, result in results
        if result.verdict.exit_code == code
        for reason in result.verdict.reasons
    ]


def _contender(name: str, rounds: Sequence[Round], objectives: Objectives | None) -> Contender:
    records = [r for _, rows in rounds for r in rows]
    first = rounds[0][0]
    seconds = [result.overall.window_s for result, _ in rounds]
    longest = max(seconds)
    stages: dict[str, float] = {}
    for each in (stage for result, _ in rounds for stage in result.stages):
        stages[each.name] = max(each.window_s, stages.get(each.name, 0.0))
    times = windows(first.stage_starts, longest, stages, sum(seconds) / longest)
    tenants = [Tenant.model_validate(tenant) for tenant in first.scenario["tenants"]]
    broken = break_down(name, records, times, objectives, tenants, missing={})
    return Contender(name=name, target=first.target, **dict(broken))
