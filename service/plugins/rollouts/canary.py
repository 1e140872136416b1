"""One stage of a release: which requests the next version answers, and how it is judged."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from service.common.error_messages import quote
from service.context import RequestContext
from service.context.answer import ReplayText
from service.errors import Conflict
from service.plugins.rollouts.comparison import Agreement, Arm, Criterion, Tenants
from service.plugins.rollouts.judge import Judge, Observation, criteria, stages
from service.plugins.rollouts.log import Change, Event
from service.plugins.rollouts.replay import Replay, ReplayGeneration
from service.plugins.rollouts.settings import PlanSettings, ShadowSettings
from service.plugins.rollouts.standing import (
    SHADOW,
    Candidate,
    Stage,
    Standing,
    begun,
    drawn,
    lot,
    step_of,
)
from service.plugins.rollouts.trial import Trial, Verdict


class Canary(Stage[Judge]):
    """One canary step, from its entry in the log to its verdict.

    A hash of the caller chooses the version. So a caller keeps its version within a stage, and a
    caller who gets the next version at a small share also gets it at every larger share. The hash
    differs between releases. `users` are the tenants that have asked for the adapter.
    """

    def __init__(
        self,
        plan: PlanSettings,
        index: int,
        old: Candidate,
        new: Candidate,
        since: int,
        users: set[str],
    ) -> None:
        super().__init__(plan, index, old, new, since)
        self.needed = plan.canary[index].requests
        tenants = Tenants(users, plan.trusted_tenants)
        self.trial = Judge(criteria(plan, self.labels), plan.alpha, self.needed, tenants)

    def arm(self, context: RequestContext) -> Arm | None:
        """The version that answers a request;

        None if the old one answers and the request is not judged. It is None for a request outside
        of the release, for all requests once harm is shown, and for a tenant whose own requests
        have shown harm.
        """
        if self.verdict is not None and self.verdict.harm:
            return None
        if context.tenant.name in self.trial.spared:
            return None
        caller = self._caller(context)
        if caller is None:
            return None
        return "new" if drawn(f"{self.new.digest} {caller}") < self.share else "old"

    def add(
        self, arm: Arm, tenant: str, now: Observation, before: Observation | None = None
    ) -> bool:
        """Count what is known of a request so far; True if this decides the stage."""
        if self.verdict is not None:
            return False
        self.verdict = self.trial.add(arm, tenant, now, before)
        return self.verdict is not None

    def rate(self, digest: str, score: float, tenant: str) -> bool:
        """Count a tenant's rating of a version's answer; True if it decides the step.

        `digest` is the prefix of the version's digest that the engine's name contains.
        """
        if self.verdict is not None:
            return False
        if self.new.digest.removeprefix("sha256:").startswith(digest):
            self.verdict = self.trial.rate("new", tenant, score)
        elif self.old.digest.removeprefix("sha256:").startswith(digest):
            self.verdict = self.trial.rate("old", tenant, score)
        return self.verdict is not None

    def _caller(self, context: RequestContext) -> str | None:
        match self.plan.sticky:
            case "tenant":
                return context.tenant.name
            case "request":
                return lot(context)
            case "header":
                value = context.headers.get((self.plan.header or "").lower())
                return None if value is None else f"{context.tenant.name} {value}"


def shadow_criteria(plan: PlanSettings, *, labels: bool) -> list[Criterion]:
    """The tests of the shadow stage, for versions with labels or with generated text.

    Each test gets an equal part of the stage's alpha, which is an equal part of the plan's.
    """
    allowed = plan.tolerances
    tolerances = {"errors": allowed.errors, "invalid": allowed.invalid}
    if labels:
        tolerances |= {
            "abstentions": allowed.abstentions,
            "flips": allowed.flips,
            "divergence": allowed.divergence,
        }
    else:
        tolerances |= {
            "structure": allowed.structure,
            "answers": allowed.answers,
            "lengths": allowed.lengths,
        }
    alpha = plan.alpha / stages(plan) / len(tolerances)
    return [
        Criterion(name, tolerance, alpha, both_ways=name == "lengths")
        for name, tolerance in tolerances.items()
    ]


class ShadowTrial(Trial[Agreement]):
    """Counts pairs of answers from both versions, and decides once."""

    def __init__(
        self, plan: PlanSettings, settings: ShadowSettings, tenants: Tenants, *, labels: bool
    ) -> None:
        super().__init__(map(Agreement, shadow_criteria(plan, labels=labels)), tenants)
        self._needed = settings.requests

    @property
    def answered(self) -> tuple[int, int]:
        """The number of pairs for the old and for the new version, which is the same."""
        pairs = self._tests["errors"].every.pairs.total
        return pairs, pairs

    def add(self, tenant: str, differences: Mapping[str, float]) -> Verdict | None:
        """Count a pair of a tenant's answers; returns the verdict if this decides the stage."""
        for name, difference in differences.items():
            for pairs in self._counted(name, tenant):
                pairs.add(difference)
        if self.shared:
            return None
        return self._judged([tenant], list(differences)) or self._ended()

    def _ended(self) -> Verdict | None:
        return self._end("requests") if self.answered[1] >= self._needed else None


class Shadow(Stage[ShadowTrial]):
    """The shadow stage, which draws each request separately, since no caller sees its answers.

    `users` are the tenants that have asked for the adapter.
    """

    def __init__(
        self,
        plan: PlanSettings,
        settings: ShadowSettings,
        old: Candidate,
        new: Candidate,
        since: int,
        users: set[str],
    ) -> None:
        super().__init__(plan, SHADOW, old, new, since)
        self.needed = settings.requests
        self._share = settings.share
        self._busy_share = min(settings.share, settings.busy_share)
        tenants = Tenants(users, plan.trusted_tenants)
        self.trial = ShadowTrial(plan, settings, tenants, labels=bool(self.labels))

    def asks(self, context: RequestContext, *, busy: bool) -> bool:
        """True if a request is sampled, so that the next version is asked as well.

        While the engine is busy the sample is a subset of what it would be otherwise.
        """
        share = self._busy_share if busy else self._share
        text = f"shadow {self.new.digest} {lot(context)}"
        return self.verdict is None and drawn(text) < share

    def place(self) -> Replay:
        """An empty record for a request and its answer."""
        return ReplayText() if self.labels else ReplayGeneration()

    def add(self, tenant: str, differences: Mapping[str, float]) -> bool:
        """Count a pair of answers; True if it decides the stage."""
        if self.verdict is not None:
            return False
        self.verdict = self.trial.add(tenant, differences)
        return self.verdict is not None


Action = Literal["rollback", "promote", "retry"]
"""What an operator can order."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """The configured version of a name and the planned one.

    A version that cannot serve is None. While `configured` is None, because the adapter is
    quarantined, nothing is decided.
    """

    configured: Candidate | None
    plan: PlanSettings | None = None
    planned: Candidate | None = None

    def stage(self, standing: Standing, users: set[str]) -> Canary | Shadow | None:
        """The running stage; None if there is none.

        `users` are the tenants that have asked for the name.
        """
        old, new, plan = self.configured, self.planned, self.plan
        if plan is None or old is None or new is None or standing.successor != new.digest:
            return None
        index = step_of(plan, standing.share)
        if index == SHADOW and plan.shadow is not None:
            return Shadow(plan, plan.shadow, old, new, standing.since, users)
        return Canary(plan, index, old, new, standing.since, users)

    def state(self, standing: Standing) -> str | None:
        """The plan's state, one of `metrics.STATES`; None without a plan for another version."""
        plan, configured = self.plan, self.configured
        if plan is None or (configured is not None and plan.digest == configured.digest):
            return None
        if standing.live == plan.digest:
            return "full"
        if plan.digest in standing.rejected:
            return "rolled_back"
        if self.planned is None:
            return "refused"
        return "shadow" if step_of(plan, standing.share) == SHADOW else "canary"

    def asked(
        self,
        name: str,
        action: Action,
        state: str,
        by: str,
        seen: tuple[Mapping[str, Any], ...],
    ) -> list[Change]:
        """The log entries of an operator's order; raises Conflict if the state forbids it."""
        if self.configured is not None and self.planned is not None and self.plan is not None:
            old, new = self.configured.digest, self.planned.digest
            match action, state:
                case "rollback", "shadow" | "canary" | "full":
                    return [Change(name, Event.ROLLED_BACK, by, new, old, 1.0, seen)]
                case "promote", "shadow" | "canary":
                    return [Change(name, Event.FULL, by, old, new, 1.0, seen)]
                case "retry", "rolled_back":
                    return [
                        Change(name, Event.RETRIED, by, old, new, 0.0),
                        begun(name, by, self.plan, step_of(self.plan, 0.0), old),
                    ]
        raise Conflict(f"{action}: the release of {quote(name)} is in the state {state}")
