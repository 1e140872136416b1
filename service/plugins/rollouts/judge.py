"""The judge of a canary stage: the outcomes of requests, and the tests on them."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from service.common.operations import OPERATIONS
from service.context import Ending, RequestContext
from service.context.answer import Answer
from service.plugins.rollouts.comparison import Arm, Comparison, Criterion, Tenants
from service.plugins.rollouts.settings import PlanSettings
from service.plugins.rollouts.trial import Trial, Verdict

Missed = Callable[[RequestContext, str, Ending], Collection[str] | None]
"""The objectives that a request missed; None for a request that has none."""

LATENCIES = ("ttft", "tpot", "e2e")
SCORES = {f"score {cut:g}": cut for cut in (0.5, 0.7, 0.9, 0.99)}
"""Tests of the distribution of best scores: each of the share of texts with at most this score."""
LENGTHS = {f"length {cut}": cut for cut in (16, 64, 256, 1024)}
"""Tests of the lengths' distribution: each of the share of answers with at most so many tokens."""


@dataclass(frozen=True, slots=True)
class Observation:
    """Outcomes of a request by test, true for a hit, and the labels of its first text, if any.

    An outcome that is known only at the request's end is None before it, and stays None if the
    client disconnects earlier.
    """

    hits: Mapping[str, bool | None]
    labels: Collection[str] | None = None


def observe(context: RequestContext, ending: Ending | None, missed: Missed) -> Observation | None:
    """The observation of a request that runs (`ending` is None) or has ended;

    None if it does not count. A request counts from its first token or result on, however it ends:
    otherwise a client that recognises the version by its answer could choose which answers count. A
    request without output counts only if it failed or was invalid. A request does not count if it
    did no engine work, was refused, or if its client disconnected before any output. Of a
    classification only the text that was answered first counts, because texts of one request are
    often alike.
    """
    outcome = "runs" if ending is None else ending.outcome
    if outcome == "refused" or (ending is not None and not OPERATIONS.get(context.route)):
        return None
    answer = context.extension(Answer) or Answer()
    first = answer.first_result
    begun = ending is None or first is not None or context.times.first_token is not None
    if outcome == "cancelled" and not begun:
        return None
    failed = outcome in ("error", "deadline") or (first is not None and first.failed)
    left = outcome == "cancelled" and not failed
    hits: dict[str, bool | None] = {
        "errors": None if left else failed,
        "invalid": outcome == "invalid",
    }
    labels = None
    if first is not None and not first.failed:
        hits["abstentions"] = not first.labels
        hits |= {name: first.score <= cut for name, cut in SCORES.items()}
        labels = first.labels
    if begun and outcome != "invalid":
        cut, whole = answer.structure_cut, outcome == "ok"
        hits |= _generated(context.tokens.completion, cut, whole=whole) if first is None else {}
        hits |= _latencies(context, ending, missed)
    return Observation(hits, labels)


def _generated(tokens: int, structure_cut: bool | None, *, whole: bool) -> dict[str, bool | None]:
    """Lengths, and whether a structure was cut; of a part of an answer only what is certain."""
    hits = {name: False if tokens > cut else whole or None for name, cut in LENGTHS.items()}
    if structure_cut or not whole:
        return hits | {"structure": structure_cut or None}
    return hits if structure_cut is None else hits | {"structure": False}


def _latencies(
    context: RequestContext, ending: Ending | None, missed: Missed
) -> dict[str, bool | None]:
    """The objectives that were missed; of a request that did not end well, only what is known."""
    if context.tier == "flex":
        return {}
    if ending is None or ending.outcome not in ("ok", "cancelled"):
        return dict.fromkeys(LATENCIES)
    found = missed(context, context.model, ending) or ()
    if ending.outcome == "cancelled":
        ttft = "ttft" in found if context.times.first_token is not None else None
        return {"ttft": ttft, "tpot": None, "e2e": "e2e" in found or None}
    hits = {name: name in found for name in LATENCIES}
    if context.token_seconds() is None:
        del hits["tpot"]
    return dict(hits)


_LABEL = "label "
WRONG = "wrong"
"""The test of the callers' ratings."""


def criteria(plan: PlanSettings, labels: Collection[str]) -> list[Criterion]:
    """The tests of a stage: for classification with these labels, or, without labels, for text.

    The plan's alpha is divided equally between the stages, and each stage's part between its tests.
    The labels together get the part of one test, as do the scores and the lengths. So the
    probability that a harmless version is rolled back is at most alpha.
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
    """Counts the requests of both versions during one stage, and decides once.

    Counts start anew in each stage. Within a stage the share is constant, so changes of traffic
    over the day affect both versions alike. A single test beyond its tolerance shows harm. Every
    test must show the absence of harm, so each of them may use the whole alpha (Berger 1982,
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
        """Replace the earlier observation of a request (`before`) by the present one.

        Returns the verdict if this observation decides the stage; None while a store counts.
        """
        touched = dict[str, None]()
        for name, hit, times in self._changes(now, before):
            touched[name] = None
            for counts in self._counted(name, tenant):
                counts.add(arm, hit, times)
        if self.shared:
            return None
        if harm := self._judged([tenant], list(touched)):
            return harm
        return self._ended() if arm == "new" or min(self.answered) >= self._requests else None

    def rate(self, arm: Arm, tenant: str, score: float) -> Verdict | None:
        """Count a tenant's rating, 1 for a right answer; the verdict, if it decides the stage.

        A rating can only show harm. The absence of harm is judged when answers end, because ratings
        come later or not at all.
        """
        for counts in self._counted(WRONG, tenant):
            counts.add(arm, 1 - score)
        return None if self.shared else self._judged([tenant], [WRONG])

    def _ended(self) -> Verdict | None:
        if min(self.answered) >= self._requests:
            return self._end("requests")
        return self._end("no harm") if min(self.answered) and self._harmless() else None

    def _changes(
        self, now: Observation, before: Observation | None
    ) -> Iterator[tuple[str, bool | None, int]]:
        """Triples of a test, an observation, and 1 to count it or -1 to take it back."""
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
