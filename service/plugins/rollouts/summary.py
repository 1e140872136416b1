"""Summary of releases for readers: each plan's state with its tests, and the last changes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from service.plugins.rollouts.change import Change
from service.plugins.rollouts.contest import Contest
from service.plugins.rollouts.stage import Stage
from service.plugins.rollouts.standing import Standing
from service.plugins.rollouts.tenants import Counted

SHOWN_CHANGES = 100


def evidence(tests: Sequence[Counted]) -> tuple[dict[str, Any], ...]:
    """Findings of tests. Takes some milliseconds for each: do not call it on an event loop."""
    return tuple(asdict(test.finding()) for test in tests)


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """One plan: `facts` are JSON already, the findings of `tests` are computed by `told`."""

    facts: dict[str, Any]
    tests: Sequence[Counted]

    @classmethod
    def of(
        cls, name: str, contest: Contest, standing: Standing, stage: Stage[Any] | None
    ) -> "PlanSummary":
        """The plan as it is now."""
        facts: dict[str, Any] = {
            "adapter": name,
            "state": contest.state(standing),
            "live": standing.live,
            "planned": contest.plan and contest.plan.digest,
            "versions": {
                "old": contest.configured and contest.configured.exact,
                "new": contest.planned and contest.planned.exact,
            },
            "share": 0.0 if stage is None else stage.share,
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
