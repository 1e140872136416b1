"""The judge of one step: its tests, and the moment at which they decide."""

from collections.abc import Collection, Iterable

from service.releases.comparison import Arm, Comparison, Criterion
from service.releases.observation import LATENCIES, LENGTHS, SCORES, Observation
from service.releases.ratings import Ratings
from service.releases.trial import Trial, Verdict
from service.settings.releases import PlanSettings

_LABEL = "label "
WRONG = "wrong"
"""The test of the callers' ratings."""


def criteria(plan: PlanSettings, labels: Collection[str]) -> list[Criterion]:
    """The tests of a step for a version with these labels; a version without labels generates text.

    Each stage gets an equal part of the plan's alpha, and each test an equal part of that; all
    labels together count as one test, and so do the scores or the lengths. So a version that does
    no harm is rolled back with at most the probability alpha.
    """
    allowed = plan.tolerances
    single = {
        "errors": allowed.errors,
        "invalid": allowed.invalid,
        WRONG: allowed.wrong,
        **dict.fromkeys(LATENCIES, allowed.latency),
    }
    if labels:
        single["abstentions"] = allowed.abstentions
        groups = [
            ([f"{_LABEL}{label}" for label in sorted(labels)], allowed.labels),
            (list(SCORES), allowed.scores),
        ]
    else:
        single["structure"] = allowed.structure
        groups = [(list(LENGTHS), allowed.lengths)]
    alpha = plan.alpha / stages(plan) / (len(single) + len(groups))
    found = [Criterion(name, tolerance, alpha) for name, tolerance in single.items()]
    for names, tolerance in groups:
        share = alpha / len(names)
        found += [Criterion(name, tolerance, share, both_ways=True) for name in names]
    return found


def stages(plan: PlanSettings) -> int:
    """The number of stages that share a plan's alpha."""
    return len(plan.canary) + (plan.shadow is not None)


class Judge(Trial[Comparison]):
    """Counts the requests of both versions during one step, and decides once.

    A step has counts of its own: its share is constant, so traffic that changes with the time of
    day reaches both versions alike. One test beyond its tolerance shows harm. The absence of harm
    is shown only if every test shows it, so each test may use the whole alpha (Berger 1982,
    "Multiparameter hypothesis testing and acceptance sampling"). `users` and `trusted` are those of
    the `Ratings`.
    """

    def __init__(
        self,
        tests: Iterable[Criterion],
        alpha: float,
        requests: int,
        users: set[str] | None = None,
        trusted: Collection[str] = (),
    ) -> None:
        found = {test.name: Comparison(test) for test in tests}
        users = set() if users is None else users
        self._ratings = Ratings(found[WRONG].criterion, trusted=trusted, users=users)
        super().__init__((found | {WRONG: self._ratings}).values())
        self._alpha = alpha
        self._requests = requests
        self._open = next(iter(self._tests))

    @property
    def answered(self) -> tuple[int, int]:
        """Judged requests of the old and of the new version."""
        requests = self._tests["errors"]
        return requests.old.total, requests.new.total

    def add(self, arm: Arm, observation: Observation) -> Verdict | None:
        """Count a request; the verdict, if it decides the step."""
        touched = [each for each in observation.hits.items() if each[0] in self._tests]
        if observation.labels is not None:
            given = {f"{_LABEL}{label}" for label in observation.labels}
            touched += [(name, name in given) for name in self._tests if name.startswith(_LABEL)]
        for name, hit in touched:
            self._tests[name].add(arm, hit)
        if harm := self._harm(name for name, _ in touched):
            return harm
        if min(self.answered) >= self._requests:
            return Verdict(False, "requests", self.tests())
        if arm == "new" and self._harmless():
            return Verdict(False, "no harm", self.tests())
        return None

    def rate(self, arm: Arm, score: float, tenant: str) -> Verdict | None:
        """Count a tenant's rating, 1 for a right answer; the verdict, if it decides the step.

        A rating can only show harm. The absence of harm is judged as answers end, which is before
        their ratings come, if any come at all.
        """
        self._ratings.rate(tenant, arm, 1 - score)
        return self._harm([WRONG])

    def _harmless(self) -> bool:
        """True if every test shows the absence of harm. Begins with the test that last did not."""
        if not self._shows_none(self._open):
            return False
        for name in self._tests:
            if not self._shows_none(name):
                self._open = name
                return False
        return True

    def _shows_none(self, name: str) -> bool:
        test = self._tests[name]
        return not test.observed or test.harmless(self._alpha)
