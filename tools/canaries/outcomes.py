"""Outcomes of releases: what was decided, on which evidence, and how many requests met it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

from tools.canaries.plans import Planned
from tools.canaries.successors import KINDS

DECIDED = ("rolled_back", "full", "refused")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a release; `met` are requests of users that the next version answered."""

    planned: Planned
    state: str
    rule: str
    evidence: str
    met: int
    asked: int
    seconds: float

    @property
    def right(self) -> bool:
        """True for a good successor that is live, and a bad one that is not."""
        wanted = "full" if KINDS[self.planned.kind].good else "rolled_back"
        return self.state == wanted

    def row(self) -> str:
        """A row of the table."""
        kind = KINDS[self.planned.kind]
        cells = [f"{kind.adapter}: {kind.text}", self.state.replace("_", " "), self.rule]
        cells += [self.evidence, str(self.met), str(self.asked), f"{self.seconds:.0f}"]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| the next version | end | rule | evidence | met it | requests | seconds |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def read_releases(ops: str) -> tuple[dict[str, str], Sequence[Mapping[str, Any]]]:
    """The state of each release, and the changes of the log."""
    found = httpx.get(f"{ops}/releases", timeout=60).raise_for_status().json()
    return {each["adapter"]: each["state"] for each in found["releases"]}, found["changes"]


def evidence_of(name: str, changes: Sequence[Mapping[str, Any]]) -> tuple[str, str]:
    """The rule and the evidence of a release's last change."""
    last = [each for each in changes if each["name"] == name][-1]
    if last["event"] != "rolled_back":
        return str(last["by"]), ""
    (found,) = last["evidence"]
    shares = " ".join(
        f"{arm} {found[arm][0]:g} of {found[arm][1]}" for arm in ("old", "new") if found[arm]
    )
    return str(last["by"]), f"{found['statistic']:.1f} over {found['bound']:.1f}: {shares}"
