"""The judge: equal versions are rolled back by no more than alpha, and bad ones soon."""

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from service.plugins.rollouts.comparison import Tenants
from service.plugins.rollouts.judge import SCORES, Judge, Observation, criteria
from service.plugins.rollouts.settings import PlanSettings, StepSettings
from service.plugins.rollouts.trial import Verdict

LABELS = ("negative", "positive")


def plan(alpha: float = 0.05, requests: int = 200) -> PlanSettings:
    steps = [{"share": share, "requests": requests} for share in (0.1, 0.5)]
    return PlanSettings.model_validate(
        {
            "source": "next",
            "digest": f"sha256:{'0' * 64}",
            "sticky": "request",
            "canary": steps,
            "alpha": alpha,
        }
    )


def judge_of(plan: PlanSettings, requests: int, labels: Sequence[str] = LABELS) -> Judge:
    """The judge of one step, whose requests are all of one tenant."""
    return Judge(criteria(plan, labels), plan.alpha, requests, Tenants({"a"}))


@dataclass(frozen=True)
class Version:
    """Rates of one version."""

    errors: float = 0.01
    abstentions: float = 0.1
    ttft: float = 0.05
    positive: float = 0.6

    def answer(self, draws: random.Random) -> Observation:
        abstains = draws.random() < self.abstentions
        label = "positive" if draws.random() < self.positive else "negative"
        return Observation(
            {
                "errors": draws.random() < self.errors,
                "invalid": draws.random() < 0.02,
                "abstentions": abstains,
                "ttft": draws.random() < self.ttft,
            },
            () if abstains else (label,),
        )


def released(plan: PlanSettings, new: Version, seed: int) -> tuple[Verdict, int]:
    """The last verdict of a release, and the requests that the new version answered."""
    draws, answered = random.Random(seed), 0
    for step in plan.canary:
        verdict, seen = judged(plan, step, new, draws)
        answered += seen
        if verdict.harm:
            break
    return verdict, answered


def judged(
    plan: PlanSettings, step: StepSettings, new: Version, draws: random.Random
) -> tuple[Verdict, int]:
    """The verdict of a step, and the requests that the new version answered in it."""
    judge, answered = judge_of(plan, step.requests), 0
    while True:
        is_new = draws.random() < step.share
        answered += is_new
        version = new if is_new else Version()
        verdict = judge.add("new" if is_new else "old", "a", version.answer(draws))
        if verdict is not None:
            return verdict, answered


def test_the_tests_of_all_steps_share_alpha() -> None:
    tests = criteria(plan(), LABELS)
    assert sum(test.alpha for test in tests) * len(plan().canary) == pytest.approx(0.05)


def test_equal_versions_are_rolled_back_by_no_more_than_alpha() -> None:
    # At an alpha of 0.2, 40 releases may lose 8; 17 or more would happen with probability 0.001.
    lost = sum(released(plan(0.2, 60), Version(), seed)[0].harm for seed in range(40))
    assert lost < 17


@pytest.mark.parametrize(
    ("new", "rule", "most"),
    [
        (Version(errors=1), "errors", 10),
        (Version(errors=0.3), "errors", 100),
        (Version(positive=0), "label negative", 60),
        (Version(abstentions=0.6), "abstentions", 60),
        (Version(ttft=0.6), "ttft", 60),
    ],
    ids=["breaks", "fails often", "another mix", "abstains", "slow"],
)
def test_a_bad_version_is_rolled_back_soon(new: Version, rule: str, most: int) -> None:
    found = [released(plan(), new, seed) for seed in range(5)]
    assert all(verdict.harm for verdict, _ in found)
    assert max(answered for _, answered in found) <= most
    rules = Counter(verdict.rule for verdict, _ in found)
    assert rules[rule] + rules["label positive"] >= 4
    for verdict, _ in found:
        (finding,) = [test.finding() for test in verdict.tests]
        assert finding.statistic >= finding.bound
        assert finding.lower >= finding.tolerance or finding.upper <= -finding.tolerance


@pytest.mark.parametrize(
    ("hits", "rule"),
    [("structure", "structure"), ("length 16", "length 16"), ("length 1024", "length 1024")],
)
def test_generated_text_that_is_cut_or_of_other_length_is_rolled_back(hits: str, rule: str) -> None:
    # The next version's answers are cut twice as often, or three times as often short or long.
    draws, old = random.Random(5), {"structure": 0.1, "length 16": 0.2, "length 1024": 0.9}
    new = old | {hits: {"structure": 0.4, "length 16": 0.7, "length 1024": 0.3}[hits]}
    judge = judge_of(plan(), 2000, ())
    while True:
        for arm, shares in (("old", old), ("new", new)):
            found = {name: draws.random() < share for name, share in shares.items()}
            observation = Observation({"errors": False, "invalid": False, **found})
            if verdict := judge.add("new" if arm == "new" else "old", "a", observation):
                assert (verdict.harm, verdict.rule) == (True, rule)
                return


def test_scores_that_drift_are_rolled_back() -> None:
    draws, judge = random.Random(6), judge_of(plan(), 2000)
    while True:
        for arm, power in (("old", 0.3), ("new", 2)):
            score = 0.5 + 0.5 * draws.random() ** power
            hits = {name: score <= cut for name, cut in SCORES.items()}
            observation = Observation({"errors": False, "invalid": False, **hits}, ("positive",))
            if verdict := judge.add("new" if arm == "new" else "old", "a", observation):
                assert verdict.harm
                assert verdict.rule.startswith("score ")
                return


def test_a_version_that_is_rated_worse_is_rolled_back_and_an_equal_one_is_not() -> None:
    for wrong, harm in ((0.5, True), (0.1, False)):
        draws, judge = random.Random(7), judge_of(plan(), 2000)
        verdict = None
        for _ in range(300):
            for arm, share in (("old", 0.1), ("new", wrong)):
                score = 0.9 if draws.random() >= share else 0.0
                verdict = verdict or judge.rate("new" if arm == "new" else "old", "a", score)
        assert (verdict is not None) is harm
        if verdict is not None:
            assert (verdict.harm, verdict.rule) == (True, "wrong")
            (finding,) = [test.finding() for test in verdict.tests]
            assert finding.new[1] < 200
            assert finding.statistic >= finding.bound


def test_a_step_goes_on_when_both_versions_answered_enough() -> None:
    verdict, answered = released(plan(requests=30), Version(), 1)
    assert (verdict.harm, verdict.rule) == (False, "requests")
    assert answered >= 60


def test_a_step_goes_on_early_once_it_has_shown_that_there_is_no_harm() -> None:
    generous = plan(requests=1_000_000).model_copy(
        update={
            "tolerances": plan().tolerances.model_copy(
                update=dict.fromkeys(("errors", "invalid", "abstentions", "labels", "latency"), 0.3)
            )
        }
    )
    verdict, answered = released(generous, Version(), 1)
    assert (verdict.harm, verdict.rule) == (False, "no harm")
    assert answered < 1000
    assert all(abs(test.finding().upper) <= 1 for test in verdict.tests)


def test_a_look_at_nothing_decides_nothing() -> None:
    assert judge_of(plan(), 200).look() is None


def test_counts_that_were_kept_go_on_where_they_were() -> None:
    draws = random.Random(3)
    judge, resumed = (judge_of(plan(), 200) for _ in range(2))
    for arm in ("old", "new") * 20:
        judge.add("new" if arm == "new" else "old", "a", Version().answer(draws))
    resumed.resume(judge.counts())
    assert resumed.answered == (20, 20)
    assert resumed.tests() == judge.tests()
    resumed.resume({"errors": [0, 9, 0, 9]})  # of an earlier version
    assert resumed.answered == (20, 20)
