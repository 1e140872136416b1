"""One step of a release: which requests the next version answers, and what is made of them."""

from service.context import RequestContext
from service.releases.comparison import Arm
from service.releases.judge import Judge, criteria
from service.releases.observation import Observation
from service.releases.stage import Contender, Stage, drawn
from service.settings.releases import PlanSettings


class Canary(Stage[Judge]):
    """A step from its beginning in the log to its verdict.

    Callers are drawn by a hash, so that a caller stays with its version, and one that has the next
    version at a small share has it at every larger one. Each release draws others.
    """

    def __init__(
        self, plan: PlanSettings, index: int, old: Contender, new: Contender, since: int
    ) -> None:
        super().__init__(plan, index, old, new, since)
        self.needed = plan.canary[index].requests
        self.trial = Judge(criteria(plan, self.labels), plan.alpha, self.needed)

    def arm(self, context: RequestContext) -> Arm | None:
        """The version of a request; None if the release does not concern it.

        After harm was shown no request gets the next version.
        """
        if self.verdict is not None and self.verdict.harm:
            return None
        caller = self._caller(context)
        if caller is None:
            return None
        return "new" if drawn(f"{self.new.digest} {caller}") < self.share else "old"

    def add(self, arm: Arm, observation: Observation) -> bool:
        """Count a request that ended; True if it decides the step."""
        if self.verdict is not None:
            return False
        self.verdict = self.trial.add(arm, observation)
        return self.verdict is not None

    def rate(self, digest: str, score: float) -> bool:
        """Count what a caller says of an answer of a version; True if it decides the step.

        `digest` is its beginning, as in the name that the engine knows the version by.
        """
        if self.verdict is not None:
            return False
        if self.new.digest.removeprefix("sha256:").startswith(digest):
            self.verdict = self.trial.rate("new", score)
        elif self.old.digest.removeprefix("sha256:").startswith(digest):
            self.verdict = self.trial.rate("old", score)
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
