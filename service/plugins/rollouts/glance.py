"""Releases at a glance: each plan with the tests that are nearest to their bound."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service.plugins.rollouts.change import Change
from service.plugins.rollouts.summary import PlanSummary, Summary
from service.plugins.rollouts.tenants import Counted

SHOWN_TESTS = 6

Row = Mapping[str, Any]
"""A test as JSON: `criterion`, `statistic`, `bound`, and hits and requests of `old` and `new`."""


def glance(summary: Summary) -> list[dict[str, Any]]:
    """Every plan as JSON, with its last change, for a page that is drawn every few seconds.

    The tests are those of the running stage, else those of the change that ended the last one.
    Without the bounds of the differences a test takes some 50 us, not milliseconds.
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
    """The tests that the log keeps of a change; a golden proof is none."""
    evidence: Sequence[Row] = () if change is None else change.evidence
    wanted = ("criterion", "statistic", "bound", "old", "new")
    return [{name: each[name] for name in wanted} for each in evidence if "statistic" in each]
