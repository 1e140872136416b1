"""One step of a release: the requests that the next version answers, and their judgement."""

from service.context import RequestContext
from service.plugins.rollouts.comparison import Arm
from service.plugins.rollouts.judge import Judge, criteria
from service.plugins.rollouts.observation import Observation
from service.plugins.rollouts.settings import PlanSettings
from service.plugins.rollouts.stage import Contender, Stage, drawn, lot
from service.plugins.rollouts.tenants import Tenants


class Canary(Stage[Judge]):
    """A step from its beginning in the log to its verdict.

    A hash draws the callers. So a caller stays with its version, and a caller who gets the next
    version at a small share also gets it at every larger share. Each release draws other callers.
    `users` are the tenants that have asked for the adapter.
    """

    def __init__(
        self,
        plan: PlanSettings,
        index: int,
        old: Contender,
        new: Contender,
        since: int,
        users: set[str],
    ) -> None:
        super().__init__(plan, index, old, new, since)
        self.needed = plan.canary[index].requests
        tenants = Tenants(users, plan.trusted_tenants)
        self.trial = Judge(criteria(plan, self.labels), plan.alpha, self.needed, tenants)

    def arm(self, context: RequestContext) -> Arm | None:
        """The version of a request; None if the release does not concern it.

        After harm was shown no request gets the next version, nor do those of a tenant whose own
        requests have shown harm.
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
        """Count what is known of a request now; True if it decides the step."""
        if self.verdict is not None:
            return False
        self.verdict = self.trial.add(arm, tenant, now, before)
        return self.verdict is not None

    def rate(self, digest: str, score: float, tenant: str) -> bool:
        """Count a tenant's rating of a version's answer; True if it decides the step.

        `digest` is the beginning of the version's digest, as in the engine's name for it.
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
