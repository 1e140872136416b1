"""Releases as they are read: each plan's state with its tests, and the last changes."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from service.releases.canary import Canary
from service.releases.change import Change
from service.releases.comparison import Comparison
from service.releases.contest import Contest
from service.releases.standing import Standing

SHOWN_CHANGES = 100


def evidence(tests: Sequence[Comparison]) -> tuple[dict[str, Any], ...]:
    """Findings of tests; takes some milliseconds for each, so on no event loop."""
    return tuple(asdict(test.finding()) for test in tests)


@dataclass(frozen=True, slots=True)
class PlanSummary:
    """One plan; `facts` can be read at once, `tests` have yet to be evaluated."""

    facts: dict[str, Any]
    tests: Sequence[Comparison]

    @classmethod
    def of(
        cls, name: str, contest: Contest, standing: Standing, canary: Canary | None
    ) -> "PlanSummary":
        """The plan as it is now."""
        facts: dict[str, Any] = {
            "adapter": name,
            "state": contest.state(standing),
            "live": standing.live,
            "planned": contest.plan and contest.plan.digest,
            "share": 0.0 if canary is None else canary.share,
        }
        if canary is None:
            return cls(facts, ())
        old, new = canary.judge.answered
        needed = canary.plan.canary[canary.index].requests
        facts |= {
            "step": canary.index + 1,
            "steps": len(canary.plan.canary),
            "since": canary.since,
            "requests": {"old": old, "new": new, "needed": needed},
        }
        return cls(facts, canary.judge.tests())

    def told(self) -> dict[str, Any]:
        """The plan as JSON; during a step with every test."""
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
