"""The stage before the steps: the next version answers some requests too, and none is sent."""

from collections.abc import Mapping

from service.context import RequestContext
from service.context.kept import Kept, KeptGeneration, KeptText
from service.plugins.rollouts.agreement import Agreement
from service.plugins.rollouts.comparison import Criterion
from service.plugins.rollouts.judge import stages
from service.plugins.rollouts.settings import PlanSettings, ShadowSettings
from service.plugins.rollouts.stage import SHADOW, Contender, Stage, drawn, lot
from service.plugins.rollouts.tenants import Tenants
from service.plugins.rollouts.trial import Trial, Verdict


def criteria(plan: PlanSettings, *, labels: bool) -> list[Criterion]:
    """The tests of the shadow, for versions with labels or of generated text.

    Each test gets an equal part of the shadow's part of the plan's alpha.
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
    """Counts the pairs of answers, and decides once."""

    def __init__(
        self, plan: PlanSettings, settings: ShadowSettings, tenants: Tenants, *, labels: bool
    ) -> None:
        super().__init__(map(Agreement, criteria(plan, labels=labels)), tenants)
        self._needed = settings.requests

    @property
    def answered(self) -> tuple[int, int]:
        """Pairs, twice: each request was answered by both versions."""
        pairs = self._tests["errors"].every.pairs.total
        return pairs, pairs

    def add(self, tenant: str, differences: Mapping[str, float]) -> Verdict | None:
        """Count a pair of a tenant's request; the verdict, if it decides the stage."""
        for name, difference in differences.items():
            for pairs in self._tests[name].of(self._tenants.group(tenant)):
                pairs.add(difference)
        if harm := self._judged(tenant, list(differences)):
            return harm
        return self._end("requests") if self.answered[1] >= self._needed else None


class Shadow(Stage[ShadowTrial]):
    """Draws each request on its own, since no caller gets an answer of the next version.

    `users` are the tenants that have asked for the adapter.
    """

    def __init__(
        self,
        plan: PlanSettings,
        settings: ShadowSettings,
        old: Contender,
        new: Contender,
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
        """Draw a request: True if the next version is to be asked it, too.

        Of those that are drawn while the engine is not busy, some are drawn while it is.
        """
        share = self._busy_share if busy else self._share
        text = f"shadow {self.new.digest} {lot(context)}"
        return self.verdict is None and drawn(text) < share

    def place(self) -> Kept:
        """A place for a request and its answer."""
        return KeptText() if self.labels else KeptGeneration()

    def add(self, tenant: str, differences: Mapping[str, float]) -> bool:
        """Count a pair of answers; True if it decides the stage."""
        if self.verdict is not None:
            return False
        self.verdict = self.trial.add(tenant, differences)
        return self.verdict is not None
