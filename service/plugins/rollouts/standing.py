"""The version that each name stands for, its successor, and the stages of a release."""

import hashlib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from service.context import RequestContext
from service.plugins.rollouts.log import Change, Event
from service.plugins.rollouts.settings import PlanSettings
from service.plugins.rollouts.trial import Trial, Verdict

Tests = TypeVar("Tests", bound=Trial[Any])

SHADOW = -1
"""Index of the stage before the steps."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A loaded version: its digest, its unique name, and its labels; none if it generates text."""

    digest: str
    exact: str
    labels: Collection[str]


class Stage(Generic[Tests]):
    """One stage of a release, from its entry `since` in the log to its verdict.

    It ends after `needed` requests without harm. `golden` is the result of the golden examples,
    which are asked when the stage begins. `judges` is true if this process decides the stage: of
    replicas that share a store, one does.
    """

    trial: Tests
    needed: int

    def __init__(
        self, plan: PlanSettings, index: int, old: Candidate, new: Candidate, since: int
    ) -> None:
        self.plan = plan
        self.index = index
        self.old = old
        self.new = new
        self.since = since
        self.verdict: Verdict | None = None
        self.golden: Mapping[str, Any] | None = None
        self.judges = True

    def share_counts(self) -> None:
        """Leave the counting to a store of several replicas; `look` then judges what it counted."""
        self.judges = False
        self.trial.share_counts()

    def look(self) -> Verdict | None:
        """The verdict on what is known of the stage now; do not call it on an event loop."""
        return self.golden_verdict() or self.trial.look()

    def golden_verdict(self) -> Verdict | None:
        """The rollback for golden examples that failed; None unless they did."""
        if self.golden is None or self.golden["proven"]:
            return None
        seen = {name: value for name, value in self.golden.items() if name != "proven"}
        return Verdict(True, "golden", (), ({"criterion": "golden", **seen},))

    @property
    def labels(self) -> Collection[str]:
        """The labels of both versions."""
        return {*self.old.labels, *self.new.labels}

    @property
    def share(self) -> float:
        """Share of the requests that the next version answers."""
        return share_of(self.plan, self.index)

    @property
    def last(self) -> bool:
        """True for the last step."""
        return self.index + 1 == len(self.plan.canary)

    def same(self, other: "Stage[Any]") -> bool:
        """True if both are the same stage of the same plan and versions."""
        own = (self.plan, self.since, self.old, self.new)
        return own == (other.plan, other.since, other.old, other.new)


@dataclass(frozen=True, slots=True)
class Drawn:
    """A request whose version was chosen by a stage; an extension of the request's context.

    `since` is the number of the log's entry that began the stage.
    """

    since: int


def share_of(plan: PlanSettings, index: int) -> float:
    """Share of the requests that the next version answers in a stage; 0 in the shadow."""
    return 0.0 if index == SHADOW else plan.canary[index].share


def lot(context: RequestContext) -> str:
    """The text to hash for `drawn`: constant for a request, and not under its client's control."""
    return f"{context.request_id} {context.arrival!r}"


def drawn(text: str) -> float:
    """A number in [0, 1) from the text's hash: uniform over texts, constant for each."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / (1 << 56)


@dataclass(frozen=True, slots=True)
class Standing:
    """The version that a name stands for, by digest, and its successor.

    `successor`, if there is one, answers `share` of the requests (0 in the shadow) since the log's
    entry `since`. `rejected` are the digests that will not be tried again. `released` is true if
    the name got its version by a release and not by the configuration.
    """

    live: str | None = None
    released: bool = False
    successor: str | None = None
    share: float = 0.0
    since: int = 0
    rejected: frozenset[str] = frozenset()

    def after(self, change: Change) -> "Standing":
        """The standing after a change of the name."""
        ended = replace(self, successor=None, share=0.0)
        match change.event:
            case Event.SHADOW | Event.STEP:
                return replace(
                    self, successor=change.after, share=change.share, since=change.number
                )
            case Event.FULL:
                return replace(ended, live=change.after, released=True)
            case Event.ROLLED_BACK:
                rejected = self.rejected | {change.before or ""}
                return replace(ended, live=change.after, released=False, rejected=rejected)
            case Event.WITHDRAWN:
                return ended
            case Event.RETRIED:
                return replace(self, rejected=self.rejected - {change.after or ""})
            case Event.CONFIGURED:
                return replace(ended, live=change.after, released=False)


def standings(changes: Iterable[Change]) -> dict[str, Standing]:
    """The standing of each name after these changes."""
    found: dict[str, Standing] = {}
    for change in changes:
        found[change.name] = found.get(change.name, Standing()).after(change)
    return found


def step_of(plan: PlanSettings, share: float) -> int:
    """The index of the stage with this share, else of the next larger one, else of the last.

    So a release continues at its share after the steps of its plan were changed. The shadow stage
    has share 0.
    """
    if share == 0 and plan.shadow is not None:
        return SHADOW
    for index, step in enumerate(plan.canary):
        if step.share >= share:
            return index
    return len(plan.canary) - 1


def due(
    name: str, standing: Standing, configured: str, plan: PlanSettings | None, *, loaded: bool
) -> list[Change]:
    """The changes that the configuration makes necessary.

    `configured` is the digest of the configured version; `loaded` says whether the plan's version
    can serve. A version that a release made live stays live as long as the plan names it; a version
    that was rolled back is not started again.
    """
    wanted = None if plan is None or plan.digest == configured else plan
    if standing.released and wanted is not None and standing.live == wanted.digest:
        return []
    by, found = "configuration", list[Change]()
    if standing.live != configured:
        found.append(Change(name, Event.CONFIGURED, by, standing.live, configured))
    going = standing.successor if not found else None
    if going is not None and (wanted is None or wanted.digest != going):
        found.append(Change(name, Event.WITHDRAWN, by, going, configured))
        going = None
    if wanted is None or wanted.digest in standing.rejected or not loaded:
        return found
    index = step_of(wanted, 0.0 if going is None else standing.share)
    if going is None or share_of(wanted, index) != standing.share:
        found.append(begun(name, by, wanted, index, configured))
    return found


def begun(
    name: str,
    by: str,
    plan: PlanSettings,
    index: int,
    old: str,
    evidence: tuple[Mapping[str, Any], ...] = (),
) -> Change:
    """The change that begins a stage of a plan; `old` is the present version's digest."""
    event = Event.SHADOW if index == SHADOW else Event.STEP
    return Change(name, event, by, old, plan.digest, share_of(plan, index), evidence)
