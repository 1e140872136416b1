"""Outcomes of releases: what was decided, on which evidence, and how many requests met it."""

from collections.abc import Sequence
from dataclasses import dataclass

from service.plugins.rollouts.log import Change, Event
from tests.canaries.kinds import KINDS
from tests.canaries.plans import Planned

DECIDED = (Event.ROLLED_BACK, Event.FULL)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of a release; `met` are requests of users that the next version answered."""

    planned: Planned
    change: Change
    met: int
    asked: int
    seconds: float

    @property
    def right(self) -> bool:
        """True for a good successor that is live, and a bad one that is not."""
        wanted = Event.FULL if KINDS[self.planned.kind].good else Event.ROLLED_BACK
        return self.change.event == wanted

    def row(self) -> str:
        """A row of the table."""
        kind = KINDS[self.planned.kind]
        change = self.change
        cells = [f"{kind.adapter}: {kind.text}", change.event.replace("_", " "), change.by]
        cells += [evidence_of(change), str(self.met), str(self.asked), f"{self.seconds:.0f}"]
        return f"| {' | '.join(cells)} |"


HEAD = (
    "| the next version | end | rule | evidence | met it | requests | seconds |\n"
    "| --- | --- | --- | --- | --- | --- | --- |"
)


def last_change(name: str, changes: Sequence[Change]) -> Change:
    """The last change of a release's name."""
    return [each for each in changes if each.name == name][-1]


def evidence_of(change: Change) -> str:
    """The evidence of a rollback; of any other change nothing."""
    if change.event != Event.ROLLED_BACK:
        return ""
    (found,) = change.evidence
    if "statistic" not in found:
        return f"expected {found['expected']}, found {found['found']}"
    shares = " ".join(
        f"{arm} {found[arm][0]:g} of {found[arm][1]}" for arm in ("old", "new") if found[arm]
    )
    return f"{found['statistic']:.1f} over {found['bound']:.1f}: {shares}"
