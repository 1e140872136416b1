"""Summary of releases for readers: each plan's state with its tests, and the last changes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from service.plugins.rollouts.canary import Experiment
from service.plugins.rollouts.comparison import Counted
from service.plugins.rollouts.log import Change
from service.plugins.rollouts.standing import Stage, Standing

SHOWN_CHANGES = 100


def evidence(tests: Sequence[Counted]) -> tuple[dict[str, Any], ...]:
    """Findings of tests. Takes some milliseconds for each: do not call it on an event loop."""
    return tuple(asdict(test.finding()) for test in tests)


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """One plan: `facts` are ready as JSON; `told` computes the findings of `tests`."""

    facts: dict[str, Any]
    tests: Sequence[Counted]

    @classmethod
    def of(
        cls, name: str, experiment: Experiment, standing: Standing, stage: Stage[Any] | None
    ) -> "PlanSummary":
        """The plan as it is now."""
        facts: dict[str, Any] = {
            "adapter": name,
            "state": experiment.state(standing),
            "live": standing.live,
            "planned": experiment.plan and experiment.plan.digest,
            "versions": {
                "old": experiment.configured and experiment.configured.exact,
                "new": experiment.planned and experiment.planned.exact,
            },
            "share": 0.0 if stage is None else stage.share,
            "judge": stage is not None and stage.judges,
        }
        if stage is None:
            return cls(facts, ())
        old, new = stage.trial.answered
        facts |= {
            "step": stage.index + 1,
            "steps": len(stage.plan.canary),
            "since": stage.since,
            "requests": {"old": old, "new": new, "needed": stage.needed},
            "golden": stage.golden,
            "disputed": stage.trial.disputed,
            "spared": sorted(stage.trial.spared),
        }
        return cls(facts, stage.trial.tests())

    def told(self) -> dict[str, Any]:
        """The plan as JSON; during a stage with every test."""
        return self.facts | {"tests": evidence(self.tests)}


@dataclass(frozen=True, slots=True)
class Summary:
    """All plans, the last changes, and the digest of the last one."""

    plans: Sequence[PlanSummary]
    changes: Sequence[Change]
    head: str

    def told(self) -> dict[str, Any]:
        """The summary as JSON."""
        return {
            "releases": [plan.told() for plan in self.plans],
            "changes": [asdict(change) for change in self.changes],
            "head": self.head,
        }


SHOWN_TESTS = 6

Row = Mapping[str, Any]
"""A test as JSON: `criterion`, `statistic`, `bound`, and hits and requests of `old` and `new`."""


def overview_of(summary: Summary) -> list[dict[str, Any]]:
    """Every plan as JSON, with its last change, for a page that refreshes every few seconds.

    The tests are those of the running stage, else those of the change that ended the last stage.
    The bounds of the differences are left out, so that a test takes some 50 us instead of
    milliseconds.
    """
    last = {change.name: change for change in summary.changes}
    return [_plan(plan, last.get(plan.facts["adapter"])) for plan in summary.plans]


def _plan(plan: PlanSummary, change: Change | None) -> dict[str, Any]:
    running = "step" in plan.facts
    tests = _measured(plan.tests) if running else _kept(change)
    tests.sort(key=lambda row: -row["statistic"] / row["bound"])
    return plan.facts | {
        "changed": None if change is None else {"by": change.by, "time": change.time},
        "tests": tests[:SHOWN_TESTS],
        "more": max(0, len(tests) - SHOWN_TESTS),
    }


def _measured(tests: Iterable[Counted]) -> list[Row]:
    rows = list[Row]()
    for test in tests:
        old, new = test.hits
        rows.append(
            {
                "criterion": test.criterion.name,
                "statistic": round(test.statistic, 3),
                "bound": round(test.criterion.bound, 3),
                "old": old,
                "new": new,
            }
        )
    return rows


def _kept(change: Change | None) -> list[Row]:
    """The tests that the log has of a change, without golden proofs."""
    evidence: Sequence[Row] = () if change is None else change.evidence
    wanted = ("criterion", "statistic", "bound", "old", "new")
    return [{name: each[name] for name in wanted} for each in evidence if "statistic" in each]
