"""A stage of a release: its two versions and the trial of the next one."""

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from service.context import RequestContext
from service.plugins.rollouts.settings import PlanSettings
from service.plugins.rollouts.trial import Trial, Verdict

Tests = TypeVar("Tests", bound=Trial[Any])

SHADOW = -1
"""Index of the stage before the steps."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A loaded version: its digest, its exact name, which is never another version's, its labels.

    A version that generates text has no labels.
    """

    digest: str
    exact: str
    labels: Collection[str]


class Stage(Generic[Tests]):
    """A stage from its beginning in the log (`since`) to its verdict.

    After `needed` requests without harm it ends. `golden` is the result of the golden proof that is
    asked when it begins.
    """

    trial: Tests
    needed: int

    def __init__(
        self, plan: PlanSettings, index: int, old: Contender, new: Contender, since: int
    ) -> None:
        self.plan = plan
        self.index = index
        self.old = old
        self.new = new
        self.since = since
        self.verdict: Verdict | None = None
        self.golden: Mapping[str, Any] | None = None

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
    """A request whose version a step drew: an extension of its record.

    `since` is the entry of the releases' log that began the step.
    """

    since: int


def share_of(plan: PlanSettings, index: int) -> float:
    """Share of the requests that the next version answers in a stage; 0 in the shadow."""
    return 0.0 if index == SHADOW else plan.canary[index].share


def lot(context: RequestContext) -> str:
    """A text for `drawn` that stays with a request, and that its client cannot choose."""
    return f"{context.request_id} {context.arrival!r}"


def drawn(text: str) -> float:
    """A number in [0, 1) from the text's hash: evenly spread over texts, constant for each."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / (1 << 56)
