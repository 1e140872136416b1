"""The judge of one step: its tests, and the moment at which they decide."""

from collections.abc import Collection, Iterable

from service.releases.comparison import Arm, Comparison, Criterion
from service.releases.observation import LATENCIES, LENGTHS, SCORES, Observation
from service.releases.trial import Trial, Verdict
from service.settings.releases import PlanSettings

_LABEL = "label "
WRONG = "wrong"
"""The test of what callers say of answers."""


def criteria(plan: PlanSettings, labels: Collection[str]) -> list[Criterion]:
    """The tests of a step for a version with these labels; without any it generates text.

    They share the plan's alpha: equally, the labels as one of them, and so the scores or lengths.
    So a plan whose successor does no harm ends in a rollback with at most this probability.
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

    A step has counts of its own: its share is the same throughout, so what changes with the time of
    day reaches both versions alike. Harm is one test beyond its tolerance. No harm is claimed only
    if every test claims it, so each may use the whole alpha (Berger 1982, "Multiparameter
    hypothesis testing and acceptance sampling").
    """

    def __init__(self, tests: Iterable[Criterion], alpha: float, requests: int) -> None:
        super().__init__(Comparison(test) for test in tests)
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

    def rate(self, arm: Arm, score: float) -> Verdict | None:
        """Count what a caller says of an answer: 1 for right; the verdict, if it decides the step.

        It shows harm only: an answer is counted when it ends, and rated later or never.
        """
        self._tests[WRONG].add(arm, 1 - score)
        return self._harm([WRONG])

    def _harmless(self) -> bool:
        """True if no test is open. Looks first at the test that was open last."""
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
