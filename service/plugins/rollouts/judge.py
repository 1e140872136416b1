"""The judge of one step: its tests, and the moment at which they decide."""

from collections.abc import Collection, Iterable, Iterator

from service.plugins.rollouts.comparison import Arm, Comparison, Criterion
from service.plugins.rollouts.observation import LATENCIES, LENGTHS, SCORES, Observation
from service.plugins.rollouts.settings import PlanSettings
from service.plugins.rollouts.tenants import Tenants
from service.plugins.rollouts.trial import Trial, Verdict

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
    "Multiparameter hypothesis testing and acceptance sampling").
    """

    def __init__(
        self, tests: Iterable[Criterion], alpha: float, requests: int, tenants: Tenants
    ) -> None:
        super().__init__(map(Comparison, tests), tenants, claimed=(WRONG,))
        self._alpha = alpha
        self._requests = requests
        self._open = next(iter(self._tests))
        self._labels = [name for name in self._tests if name.startswith(_LABEL)]

    @property
    def answered(self) -> tuple[int, int]:
        """Judged requests of the old and of the new version."""
        requests = self._tests["errors"].every
        return requests.old.requests, requests.new.requests

    def add(
        self, arm: Arm, tenant: str, now: Observation, before: Observation | None = None
    ) -> Verdict | None:
        """Count what is known of a request now, in place of what was `before`.

        Returns the verdict, if it decides the step.
        """
        touched, group = dict[str, None](), self._tenants.group(tenant)
        for name, hit, times in self._changes(now, before):
            touched[name] = None
            for counts in self._tests[name].of(group):
                counts.add(arm, hit, times)
        if harm := self._judged(tenant, list(touched)):
            return harm
        if min(self.answered) >= self._requests:
            return self._end("requests")
        if arm == "new" and self._harmless():
            return self._end("no harm")
        return None

    def rate(self, arm: Arm, tenant: str, score: float) -> Verdict | None:
        """Count a tenant's rating, 1 for a right answer; the verdict, if it decides the step.

        A rating can only show harm. The absence of harm is judged as answers end, which is before
        their ratings come, if any come at all.
        """
        for counts in self._tests[WRONG].of(self._tenants.group(tenant)):
            counts.add(arm, 1 - score)
        return self._judged(tenant, [WRONG])

    def _changes(
        self, now: Observation, before: Observation | None
    ) -> Iterator[tuple[str, bool | None, int]]:
        """Tests with an observation that is to be counted, or -1 times to be taken back."""
        known = {} if before is None else before.hits
        for name in {**now.hits, **known}:
            if name not in self._tests or now.hits.get(name, ()) == known.get(name, ()):
                continue
            if name in known:
                yield name, known[name], -1
            if name in now.hits:
                yield name, now.hits[name], 1
        if now.labels is not None and (before is None or before.labels is None):
            for name in self._labels:
                yield name, name.removeprefix(_LABEL) in now.labels, 1

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
        test = self._tests[name].every
        return not test.observed or test.harmless(self._alpha)
