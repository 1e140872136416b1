"""The shadow's trial: pairs of answers, of versions that agree and that do not."""

import random
from collections.abc import Mapping, Sequence

import pytest

from service.context import RequestContext, Timeouts
from service.context.answer import ReplayText
from service.engine.contract import Sampling
from service.plugins.rollouts.background import FAILED, REFUSED, differences
from service.plugins.rollouts.canary import Shadow, ShadowTrial, shadow_criteria
from service.plugins.rollouts.comparison import Tenants
from service.plugins.rollouts.replay import ReplayGeneration
from service.plugins.rollouts.settings import PlanSettings, ShadowSettings
from service.plugins.rollouts.standing import Candidate
from service.plugins.rollouts.trial import Verdict

SETTINGS = ShadowSettings(requests=300, share=1.0)
TIMEOUTS = Timeouts(1, 1)


def plan(alpha: float = 0.05, **tolerances: float) -> PlanSettings:
    return PlanSettings.model_validate(
        {
            "source": "next",
            "digest": f"sha256:{'0' * 64}",
            "sticky": "request",
            "shadow": SETTINGS,
            "canary": [{"share": 0.5, "requests": 10}],
            "alpha": alpha,
            "tolerances": tolerances,
        }
    )


def text(positive: float, *labels: str) -> ReplayText:
    probs = {"positive": positive, "negative": 1 - positive}
    return ReplayText("it", None, labels, probs)


def generation(
    tokens: int, *, repeatable: bool = True, cut: bool | None = None
) -> ReplayGeneration:
    return ReplayGeneration([1], Sampling(8), repeatable, list(range(tokens)), cut)


def trial_of(plan: PlanSettings, *, labels: bool) -> ShadowTrial:
    """The trial of a shadow, whose requests are all of one tenant."""
    return ShadowTrial(plan, SETTINGS, Tenants({"a"}), labels=labels)


def judged(trial: ShadowTrial, pairs: Sequence[Mapping[str, float]]) -> Verdict | None:
    for pair in pairs:
        if verdict := trial.add("a", pair):
            return verdict
    return None


def test_the_tests_share_the_alpha_of_the_stage() -> None:
    for labels in (True, False):
        assert sum(test.alpha for test in shadow_criteria(plan(), labels=labels)) == pytest.approx(
            0.025
        )


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (text(0.9, "positive"), text(0.9, "positive"), {"flips": 0, "divergence": 0}),
        (text(0.9, "positive"), text(0.3, "negative"), {"flips": 1, "divergence": 0.6}),
        (text(0.6, "positive"), text(0.5), {"abstentions": 1, "divergence": 0.1}),
        (text(0.5), text(0.6, "positive"), {"abstentions": 0, "divergence": 0.1}),
        (generation(8), generation(8), {"answers": 0, "lengths": 0}),
        (generation(8), generation(17), {"answers": 1, "lengths": 1}),
        (generation(8), generation(3, repeatable=False), {"answers": 1, "lengths": -1}),
        (generation(8, cut=False), generation(9, cut=True), {"structure": 1, "answers": 1}),
        (generation(8, cut=True), generation(8, cut=True), {"structure": 0, "answers": 0}),
    ],
)
def test_the_differences_of_a_pair(
    old: ReplayText | ReplayGeneration, new: ReplayText | ReplayGeneration, found: dict[str, float]
) -> None:
    pair = differences(old, new)
    assert {name: pair[name] for name in found} == pytest.approx(found)
    assert {"flips", "answers"} & pair.keys() == {"flips", "answers"} & found.keys()


def test_sampled_answers_are_compared_by_their_lengths_alone() -> None:
    pair = differences(generation(8, repeatable=False), generation(9))
    assert pair.keys() == {"errors", "invalid", "lengths"}


@pytest.mark.parametrize("independent", [False, True])
def test_a_distance_of_labels_is_at_most_one(independent: bool) -> None:
    sure, other = {"a": 1.0, "b": float(independent)}, {"c": 1.0, "d": float(independent)}
    pair = differences(ReplayText("", None, ("a",), sure), ReplayText("", None, ("c",), other))
    assert pair["divergence"] == 1.0


@pytest.mark.parametrize(
    ("pair", "rule", "most"),
    [
        (FAILED, "errors", 3),
        (REFUSED, "invalid", 3),
        (differences(text(0.9, "positive"), text(0.1, "negative")), "flips", 6),
        (differences(text(0.9, "positive"), text(0.55, "positive")), "divergence", 60),
    ],
)
def test_a_version_that_differs_is_stopped_soon(
    pair: Mapping[str, float], rule: str, most: int
) -> None:
    trial = trial_of(plan(), labels=True)
    verdict = judged(trial, [pair] * 300)
    assert verdict is not None
    assert (verdict.harm, verdict.rule) == (True, rule)
    (finding,) = [test.finding() for test in verdict.tests]
    assert finding.statistic >= finding.bound
    assert finding.lower >= finding.tolerance
    assert finding.old is None
    assert finding.new[1] <= most


def test_another_label_for_a_tenth_of_the_texts_is_found_by_a_plan_that_says_so() -> None:
    same = differences(text(0.9, "positive"), text(0.9, "positive"))
    other = differences(text(0.9, "positive"), text(0.3, "negative"))
    draws, trials = random.Random(1), 20
    for plan_, found in ((plan(), 0), (plan(flips=0.02), trials)):
        rolled_back = 0
        for _ in range(trials):
            pairs = [other if draws.random() < 0.1 else same for _ in range(300)]
            verdict = judged(trial_of(plan_, labels=True), pairs)
            assert verdict is not None
            rolled_back += verdict.harm
        assert abs(rolled_back - found) <= 2


def test_lengths_are_judged_both_ways() -> None:
    for tokens, sign in ((2, -1), (40, 1)):
        trial = trial_of(plan(), labels=False)
        verdict = judged(trial, [differences(generation(10), generation(tokens))] * 300)
        assert verdict is not None
        assert (verdict.harm, verdict.rule) == (True, "lengths")
        (finding,) = [test.finding() for test in verdict.tests]
        assert sign * finding.new[0] == finding.new[1]
        assert finding.lower <= sign <= finding.upper + 1e-9


def test_sampled_lengths_of_one_model_are_no_harm() -> None:
    # Lengths that vary by chance alone, mostly by more than a factor of two.
    draws, lost = random.Random(4), 0
    for _ in range(40):
        pairs = []
        for _ in range(300):
            old, new = (generation(2 ** draws.randrange(8), repeatable=False) for _ in range(2))
            pairs.append(differences(old, new))
        verdict = judged(trial_of(plan(0.2), labels=False), pairs)
        assert verdict is not None
        lost += verdict.harm
    # 4 are expected at most: the shadow has half of the alpha.
    assert lost < 12


def test_other_words_are_no_harm_unless_a_tolerance_says_so() -> None:
    pairs = [differences(generation(10), generation(12))] * 300
    verdict = judged(trial_of(plan(), labels=False), pairs)
    assert verdict is not None
    assert (verdict.harm, verdict.rule) == (False, "requests")
    strict = judged(trial_of(plan(answers=0.5), labels=False), pairs)
    assert strict is not None
    assert (strict.harm, strict.rule) == (True, "answers")


def test_counts_that_were_kept_go_on_where_they_were() -> None:
    trial, resumed = (trial_of(plan(), labels=True) for _ in range(2))
    for _ in range(5):
        trial.add("a", differences(text(0.9, "positive"), text(0.8, "positive")))
    resumed.resume(trial.counts())
    assert resumed.answered == (5, 5)
    assert resumed.tests() == trial.tests()


def test_a_busy_engine_is_asked_some_of_what_an_idle_one_is_asked() -> None:
    settings = ShadowSettings(requests=300, share=0.2, busy_share=0.05)
    old, new = (Candidate(digest, digest, ()) for digest in ("old", "new"))
    shadow = Shadow(plan(), settings, old, new, since=0, users=set())
    contexts = [RequestContext(f"request-{number}", 0.0, 1.0, TIMEOUTS) for number in range(4000)]
    idle, busy = (
        [context for context in contexts if shadow.asks(context, busy=busy)]
        for busy in (False, True)
    )
    assert 700 < len(idle) < 900
    assert 140 < len(busy) < 260
    assert set(map(id, busy)) < set(map(id, idle))


def test_a_busy_engine_is_never_asked_more_than_an_idle_one() -> None:
    settings = ShadowSettings(requests=300, share=0.01, busy_share=1.0)
    old, new = (Candidate(digest, digest, ()) for digest in ("old", "new"))
    shadow = Shadow(plan(), settings, old, new, since=0, users=set())
    for number in range(1000):
        context = RequestContext(f"request-{number}", 0.0, 1.0, TIMEOUTS)
        assert shadow.asks(context, busy=True) == shadow.asks(context, busy=False)
