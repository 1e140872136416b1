"""The judge of one step: its tests, and the moment at which they decide."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from service.releases.comparison import Arm, Comparison, Criterion
from service.releases.observation import LATENCIES, Observation
from service.settings.releases import PlanSettings

_LABEL = "label "


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a step: harm that was shown, or that the next step may come, and the rule.

    `tests` are those that decided.
    """

    harm: bool
    rule: str
    tests: Sequence[Comparison]


def criteria(plan: PlanSettings, labels: Collection[str]) -> list[Criterion]:
    """The tests of a step, which share the plan's alpha: equally, the labels as one of them.

    So a plan whose successor does no harm ends in a rollback with at most this probability.
    """
    allowed = plan.tolerances
    tolerances = {
        "errors": allowed.errors,
        "invalid": allowed.invalid,
        "abstentions": allowed.abstentions,
        **dict.fromkeys(LATENCIES, allowed.latency),
    }
    alpha = plan.alpha / len(plan.canary) / (len(tolerances) + 1)
    found = [Criterion(name, tolerance, alpha) for name, tolerance in tolerances.items()]
    for label in sorted(labels):
        share = alpha / len(labels)
        found.append(Criterion(f"{_LABEL}{label}", allowed.labels, share, both_ways=True))
    return found


class Judge:
    """Counts the requests of both versions during one step, and decides once.

    A step has counts of its own: its share is the same throughout, so what changes with the time of
    day reaches both versions alike. Harm is one test beyond its tolerance. No harm is claimed only
    if every test claims it, so each may use the whole alpha (Berger 1982, "Multiparameter
    hypothesis testing and acceptance sampling").
    """

    def __init__(self, tests: Iterable[Criterion], alpha: float, requests: int) -> None:
        self._tests = {test.name: Comparison(test) for test in tests}
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
        touched = list(observation.hits.items())
        if observation.labels is not None:
            given = {f"{_LABEL}{label}" for label in observation.labels}
            touched += [(name, name in given) for name in self._tests if name.startswith(_LABEL)]
        for name, hit in touched:
            self._tests[name].add(arm, hit)
        for name, _ in touched:
            if self._tests[name].harmful:
                return Verdict(True, name, [self._tests[name].copy()])
        if min(self.answered) >= self._requests:
            return Verdict(False, "requests", self.tests())
        if arm == "new" and self._harmless():
            return Verdict(False, "no harm", self.tests())
        return None

    def tests(self) -> list[Comparison]:
        """Copies of all tests that have seen a request."""
        return [test.copy() for test in self._tests.values() if test.observed]

    def counts(self) -> dict[str, list[int]]:
        """The counts, as `resume` takes them."""
        return {name: test.counts() for name, test in self._tests.items()}

    def resume(self, counts: Mapping[str, Sequence[Any]]) -> None:
        """Go on from counts that were kept, if they are of the same tests."""
        if counts.keys() == self._tests.keys():
            for name, test in self._tests.items():
                test.resume(counts[name])

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
