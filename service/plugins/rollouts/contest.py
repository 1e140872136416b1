"""The two versions of a name: the configured one and the planned one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from service.common.error_messages import quote
from service.errors import Conflict
from service.plugins.rollouts.canary import Canary
from service.plugins.rollouts.change import Change, Event
from service.plugins.rollouts.settings import PlanSettings
from service.plugins.rollouts.shadow import Shadow
from service.plugins.rollouts.stage import SHADOW, Contender
from service.plugins.rollouts.standing import Standing, begun, step_of

Action = Literal["rollback", "promote", "retry"]
"""A person's order."""


@dataclass(frozen=True, slots=True)
class Contest:
    """The configured version of a name and the planned one; None for a version that cannot serve.

    Without a `configured` version, because the adapter is quarantined, nothing is decided.
    """

    configured: Contender | None
    plan: PlanSettings | None = None
    planned: Contender | None = None

    def stage(self, standing: Standing, users: set[str]) -> Canary | Shadow | None:
        """The stage that the standing is in; None for a name that stands for one version.

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
        """The plan's state, as in `metrics.STATES`, or None without a plan that differs."""
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
        """The changes that an action makes; raises Conflict if the state does not allow it."""
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
