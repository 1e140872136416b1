"""The result of a search for the highest rate within the objectives."""

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict

from loadtests.analysis.result import Result
from loadtests.analysis.summary import Goodput
from loadtests.search import Knee


class Probe(BaseModel):
    """One rate, in requests/s; `passed` is true if the run met the objectives at this rate."""

    model_config = ConfigDict(extra="forbid")

    rate: float
    passed: bool
    goodput: Goodput | None


class Searched(BaseModel):
    """Findings of a search; `stopped` is the reason for an early end.

    Without any valid probe the machine and the date are unknown.
    """

    model_config = ConfigDict(extra="forbid")

    passed: float | None
    failed: float | None
    stopped: str | None
    probes: list[Probe]
    scenario: str | None = None
    started_at: str | None = None
    command: str | None = None
    machine: dict[str, str] = {}
    target: dict[str, str] = {}


def searched(knee: Knee, results: Sequence[Result]) -> Searched:
    """The result of a search, from its knee and the results of its probes, in order."""
    found = Searched(
        passed=knee.passed,
        failed=knee.failed,
        stopped=knee.stopped,
        probes=[
            Probe(rate=rate, passed=good, goodput=result.overall.goodput)
            for (rate, good), result in zip(knee.probes, results, strict=True)
        ],
    )
    if not results:
        return found
    first = results[0]
    return found.model_copy(
        update={
            "scenario": str(first.scenario["name"]),
            "started_at": first.started_at,
            "command": first.command,
            "machine": first.machine,
            "target": first.target,
        }
    )
