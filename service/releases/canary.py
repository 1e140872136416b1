"""One step of a release: which requests the next version answers, and what is made of them."""

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from service.context import RequestContext
from service.releases.comparison import Arm
from service.releases.judge import Judge, Verdict, criteria
from service.releases.observation import Observation
from service.settings.releases import PlanSettings


@dataclass(frozen=True, slots=True)
class Contender:
    """A loaded version: its digest, the name that always names it, and its labels."""

    digest: str
    exact: str
    labels: Collection[str]


class Canary:
    """A step from its beginning in the log (`since`) to its verdict.

    Callers are drawn by a hash, so that a caller stays with its version, and one that has the next
    version at a small share has it at every larger one. Each release draws others.
    """

    def __init__(
        self, plan: PlanSettings, index: int, old: Contender, new: Contender, since: int
    ) -> None:
        self.plan = plan
        self.index = index
        self.old = old
        self.new = new
        self.since = since
        self.verdict: Verdict | None = None
        step, labels = plan.canary[index], {*old.labels, *new.labels}
        self.share = step.share
        self.judge = Judge(criteria(plan, labels), plan.alpha, step.requests)

    @property
    def last(self) -> bool:
        """True for the last step."""
        return self.index + 1 == len(self.plan.canary)

    def same(self, other: "Canary") -> bool:
        """True if both are the same step of the same plan and versions."""
        own = (self.plan, self.since, self.old, self.new)
        return own == (other.plan, other.since, other.old, other.new)

    def arm(self, context: RequestContext) -> Arm | None:
        """The version of a request; None if the release does not concern it.

        After harm was shown no request gets the next version.
        """
        if self.verdict is not None and self.verdict.harm:
            return None
        caller = self._caller(context)
        if caller is None:
            return None
        return "new" if _drawn(f"{self.new.digest} {caller}") < self.share else "old"

    def add(self, arm: Arm, observation: Observation) -> bool:
        """Count a request that ended; True if it decides the step."""
        if self.verdict is not None:
            return False
        self.verdict = self.judge.add(arm, observation)
        return self.verdict is not None

    def _caller(self, context: RequestContext) -> str | None:
        match self.plan.sticky:
            case "tenant":
                return context.tenant.name
            case "request":
                return context.request_id
            case "header":
                value = context.headers.get((self.plan.header or "").lower())
                return None if value is None else f"{context.tenant.name} {value}"


def _drawn(text: str) -> float:
    """A number in [0, 1) that is the text's own."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7]) / (1 << 56)
