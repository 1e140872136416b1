"""Steps whose requests are of several tenants: what some of them can do to the others."""

import random
from collections.abc import Callable, Collection

import pytest

from service.plugins.rollouts.background import differences
from service.plugins.rollouts.canary import ShadowTrial
from service.plugins.rollouts.comparison import GROUPS, Arm, Tenants
from service.plugins.rollouts.judge import Judge, Observation, criteria
from service.plugins.rollouts.trial import Verdict
from tests.plugins.rollouts.test_judge import LABELS, Version, plan
from tests.plugins.rollouts.test_shadow import SETTINGS, text
from tests.plugins.rollouts.test_shadow import plan as shadow_plan

Answers = Callable[[Arm, random.Random], Observation]
REQUESTS = 400


def judge_of(users: Collection[str], trusted: Collection[str] = (), requests: int = 400) -> Judge:
    return Judge(criteria(plan(), LABELS), 0.05, requests, Tenants(set(users), trusted))


def honest(new: Version) -> Answers:
    """Requests that show each version as it is."""
    return lambda arm, draws: (new if arm == "new" else Version()).answer(draws)


def hostile(arm: Arm, draws: random.Random) -> Observation:
    """Requests that make the next version look as bad as can be."""
    bad = arm == "new"
    hits = dict.fromkeys(("errors", "invalid", "abstentions", "ttft"), bad)
    return Observation(hits, () if bad else ("positive",))


def hiding(arm: Arm, draws: random.Random) -> Observation:
    """Requests that both versions answer alike."""
    hits = dict.fromkeys(("errors", "invalid", "abstentions", "ttft"), False)
    return Observation(hits, ("positive",))


def judged(
    judge: Judge, tenants: dict[str, Answers], weights: Collection[int] | None = None, seed: int = 1
) -> Verdict | None:
    """The verdict of a step at a share of a half, None if there is none after many requests."""
    draws = random.Random(seed)
    for name in draws.choices(list(tenants), None if weights is None else list(weights), k=12_000):
        arm: Arm = "new" if draws.random() < 0.5 else "old"
        if name not in judge.spared:
            if verdict := judge.add(arm, name, tenants[name](arm, draws)):
                return verdict
    return None


BAD = Version(positive=0.1)


@pytest.mark.parametrize("count", [3, 4, 5, 8, GROUPS])
def test_a_minority_that_may_lie_rolls_no_good_version_back(count: int) -> None:
    liars = 1 if count < 5 else 2
    tenants = {f"t{number}": honest(Version()) for number in range(count - liars)}
    tenants |= {f"liar{number}": hostile for number in range(liars)}
    for seed in range(3):
        judge = judge_of(tenants)
        verdict = judged(judge, tenants, seed=seed)
        assert verdict is not None
        assert (verdict.harm, verdict.rule, judge.disputed) == (False, "requests", ())
        # Only those whose requests show harm are answered by the old version.
        assert all(name.startswith("liar") for name in judge.spared)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 20])
@pytest.mark.parametrize("bad", [Version(errors=1), BAD, Version(ttft=0.6)])
def test_tenants_who_all_show_harm_roll_a_version_back(bad: Version, count: int) -> None:
    tenants = {f"t{number}": honest(bad) for number in range(count)}
    verdict = judged(judge_of(tenants), tenants)
    assert verdict is not None
    assert verdict.harm
    (test,) = verdict.tests
    assert test.statistic >= test.criterion.bound
    assert test.criterion.name == verdict.rule


@pytest.mark.parametrize(("count", "flood"), [(3, 1), (5, 1), (20, 1), (20, 10)])
def test_a_minority_hides_no_harm_that_the_others_show(count: int, flood: int) -> None:
    liars = 1 if count < 5 else 2
    tenants = {f"t{number}": honest(BAD) for number in range(count - liars)}
    tenants |= {f"liar{number}": hiding for number in range(liars)}
    weights = [1] * (count - liars) + [flood] * liars
    for seed in range(3):
        verdict = judged(judge_of(tenants), tenants, weights, seed)
        assert verdict is not None
        assert verdict.harm


def test_of_two_tenants_that_contradict_each_other_neither_decides() -> None:
    tenants = {"ann": honest(BAD), "bob": hiding}
    judge = judge_of(tenants)
    assert judged(judge, tenants) is None
    assert judge.spared == {"ann"}
    assert set(judge.disputed) & {"label positive", "label negative"}
    judge.resume(judge.counts())
    assert judge.spared == {"ann"}


def test_a_dispute_ends_once_most_tenants_deny_it() -> None:
    tenants = {"ann": honest(Version()), "bob": honest(Version())}
    judge = judge_of([*tenants, "liar"], requests=30)
    draws = random.Random(1)
    for arm in ("old", "new") * 60:
        assert judge.add("new" if arm == "new" else "old", "liar", hostile(arm, draws)) is None
    assert "errors" in judge.disputed
    verdict = judged(judge, tenants)
    assert verdict is not None
    assert (verdict.harm, verdict.rule, judge.disputed) == (False, "requests", ())


def test_a_tenant_with_most_requests_keeps_a_bad_version_from_going_on() -> None:
    # The others' requests are too few to show it, or to deny it.
    tenants = {"large": honest(BAD)} | {f"t{number}": honest(BAD) for number in range(4)}
    judge = judge_of(tenants)
    assert judged(judge, dict.fromkeys(["large"], tenants["large"])) is None
    assert judge.spared == {"large"}


@pytest.mark.parametrize(("trusted", "harm"), [((), False), (("bob",), False), (("ann",), True)])
def test_a_trusted_tenant_decides_alone(trusted: Collection[str], harm: bool) -> None:
    judge = judge_of(("ann", "bob"), trusted)
    verdict = judged(judge, {"ann": honest(BAD)})
    assert (verdict is not None and verdict.harm) is harm


def test_a_user_that_comes_later_counts_at_once() -> None:
    users = {"ann"}
    judge = Judge(criteria(plan(), LABELS), 0.05, 400, Tenants(users))
    users.add("bob")
    assert judged(judge, {"ann": hostile}) is None


@pytest.mark.parametrize(
    ("raters", "users", "harm"),
    [
        *(("a", "a", True), ("a", "ab", False), ("ab", "ab", True), ("a", "abc", False)),
        *(("ab", "abc", True), ("ab", "abcde", False), ("abc", "abcde", True)),
    ],
)
def test_ratings_decide_by_the_same_rules(raters: str, users: str, harm: bool) -> None:
    judge = judge_of(users)
    draws = random.Random(1)
    verdict = None
    for _ in range(300):
        for tenant in users:
            if verdict is None and tenant not in judge.spared:
                arm: Arm = "new" if draws.random() < 0.5 else "old"
                wrong = arm == "new" and tenant in raters and draws.random() < 0.9
                verdict = judge.rate(arm, tenant, float(not wrong))
    assert (verdict is not None) is harm
    # What tenants say of answers keeps no step from its end.
    others = {name: honest(Version()) for name in users}
    judge.spared.clear()
    ended = verdict or judged(judge, others)
    assert ended is not None
    assert ended.harm is harm


def test_requests_that_are_known_later_count_once() -> None:
    tenants = {"ann": honest(Version())}
    judge, whole = (judge_of(tenants) for _ in range(2))
    draws = random.Random(2)
    for number in range(60):
        arm: Arm = "new" if number % 2 else "old"
        ended = Version().answer(draws)
        begun = Observation({"errors": False, "ttft": None}, ended.labels)
        judge.add(arm, "ann", begun)
        judge.add(arm, "ann", ended, begun)
        whole.add(arm, "ann", ended)
    assert judge.counts() == whole.counts()
    assert judge.answered == (30, 30)


def test_who_leaves_by_what_it_sees_makes_no_dispute() -> None:
    # It stays for each late answer of the next version, and for each early one of the old one.
    judge = judge_of(("ann", "bob"))
    draws = random.Random(3)
    for _ in range(400):
        arm: Arm = "new" if draws.random() < 0.5 else "old"
        late = draws.random() < 0.5
        stays = late == (arm == "new")
        found = {"errors": False, "invalid": False, "e2e": late if stays else None}
        if verdict := judge.add(arm, "bob", Observation(found)):
            break
    assert judge.spared == {"bob"}
    assert judge.disputed == ()
    assert verdict is None or not verdict.harm


@pytest.mark.parametrize(("liars", "count", "harm"), [(1, 2, False), (2, 5, False), (2, 2, True)])
def test_a_shadow_is_decided_by_the_same_rules(liars: int, count: int, harm: bool) -> None:
    same = differences(text(0.9, "positive"), text(0.9, "positive"))
    other = differences(text(0.9, "positive"), text(0.1, "negative"))
    names = [f"t{number}" for number in range(count)]
    trial = ShadowTrial(shadow_plan(), SETTINGS, Tenants(set(names)), labels=True)
    verdict = None
    for number in range(2 * SETTINGS.requests):
        pair = other if number % count < liars else same
        verdict = verdict or trial.add(names[number % count], pair)
    assert (verdict is not None and verdict.harm) is harm


def test_many_tenants_are_counted_in_few_groups() -> None:
    tenants = {f"t{number}": honest(Version()) for number in range(3 * GROUPS)}
    judge = judge_of(tenants, requests=10_000)
    assert judged(judge, tenants) is None
    kept = judge.counts()
    assert len(kept["tests"]["errors"][1]) == GROUPS
    resumed = judge_of(())
    resumed.resume(kept)
    assert resumed.counts() == kept
    assert resumed.answered == judge.answered
