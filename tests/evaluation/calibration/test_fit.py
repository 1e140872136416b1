"""The map of answers whose truth is known."""

import math
from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from evaluation.calibration.fit import (
    GREEDY_MEASURES,
    Answered,
    fit_logistic,
    fit_map,
    least_abstention,
    log_loss,
    risk_threshold,
)
from service.adapters.confidence import Measure, Siblings
from service.errors import ConfigurationError

SIBLINGS = Siblings(samples=8, temperature=1.0)


def measured(*values: float) -> dict[Measure, float]:
    return dict(zip(GREEDY_MEASURES, values, strict=True))


def answers(count: int, *, by_entropy: bool, seed: int = 0) -> list[Answered]:
    """Answers that are right as their entropy tells, or as their mean log-probability tells."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        mean, entropy = -draw.exponential(0.5), draw.exponential(0.5)
        score = 3 - 6 * (entropy if by_entropy else -mean)
        right = draw.random() < 1 / (1 + np.exp(-score))
        measures = measured(10 * mean, mean, draw.random(), entropy)
        found.append(Answered(measures, bool(right), str(number)))
    return found


def test_a_measure_that_tells_more_is_used_and_its_figures_say_so() -> None:
    fitted = fit_map(answers(1500, by_entropy=True), "exact", cut=3, alpha=0.1)
    figures = fitted.figures
    assert set(fitted.weights) > {"mean_entropy"}
    assert fitted.weights["mean_entropy"] == pytest.approx(-6, abs=1)
    assert figures.auroc > 0.8 > 0.6 > figures.auroc_mean_logprob
    assert figures.log_loss < figures.log_loss_mean_logprob
    assert figures.ece < 0.05
    assert (figures.lines, figures.cut) == (1500, 3)
    accuracy = figures.accuracy
    assert accuracy.at_50 > accuracy.at_80 > accuracy.at_100 == pytest.approx(1 - figures.base_risk)
    assert len(figures.risk) == 10
    assert figures.risk[0] < figures.risk[4] < figures.risk[9]
    assert figures.risk[4] == pytest.approx(1 - accuracy.at_50)
    assert figures.risk[9] == figures.base_risk
    assert fitted.risk_control.threshold is not None
    counts = [each.count for each in figures.reliability]
    assert sum(counts) == 1500
    gaps = [abs(each.confidence - each.accuracy) for each in figures.reliability]
    assert np.average(gaps, weights=counts) == pytest.approx(figures.ece, abs=2e-4)


def test_the_mean_log_probability_alone_stays_where_nothing_adds_to_it() -> None:
    fitted = fit_map(answers(400, by_entropy=False), "exact", cut=0, alpha=0.1)
    assert set(fitted.weights) == {"mean_token_logprob"}
    assert fitted.figures.log_loss == fitted.figures.log_loss_mean_logprob


def compared(count: int, *, tells: bool, seed: int = 0) -> list[Answered]:
    """Answers with an agreement that tells if they are right, or not."""
    draw, found = np.random.default_rng(seed), []
    for each in answers(count, by_entropy=False, seed=seed):
        likely = 0.2 + 0.6 * each.right if tells else 0.5
        share = draw.binomial(SIBLINGS.samples, likely) / SIBLINGS.samples
        found.append(replace(each, measures={**each.measures, "agreement": share}))
    return found


def test_agreement_gets_a_map_of_its_own_where_it_tells_more() -> None:
    lines = compared(600, tells=True)
    fitted = fit_map(lines, "exact", cut=0, alpha=0.1, siblings=SIBLINGS)
    alone = fit_map(lines, "exact", cut=0, alpha=0.1)
    assert alone.agreement is None
    assert fitted.model_copy(update={"agreement": None}) == alone
    both = fitted.agreement
    assert both is not None
    assert both.siblings == SIBLINGS
    assert both.weights["agreement"] > 1
    assert both.figures.auroc > 0.95 > fitted.figures.auroc
    assert both.figures.log_loss < fitted.figures.log_loss
    assert both.figures.log_loss_mean_logprob == fitted.figures.log_loss_mean_logprob


def test_agreement_that_tells_nothing_is_left_out() -> None:
    lines = compared(600, tells=False)
    assert fit_map(lines, "exact", cut=0, alpha=0.1, siblings=SIBLINGS).agreement is None


def test_the_raw_mean_log_probability_is_judged_without_a_map() -> None:
    figures = fit_map(answers(1500, by_entropy=True), "exact", cut=0, alpha=0.1).figures
    raw = figures.accuracy_mean_logprob
    assert raw is not None
    assert figures.aurc_mean_logprob is not None
    assert figures.ece_mean_logprob is not None
    assert raw.at_100 == figures.accuracy.at_100
    assert raw.at_50 < figures.accuracy.at_50
    assert figures.aurc_mean_logprob > figures.aurc
    assert figures.ece_mean_logprob > figures.ece


def test_lines_of_one_group_never_tell_of_each_other() -> None:
    """Groups whose measures say nothing of other groups: the figures show no skill."""
    draw, found = np.random.default_rng(3), []
    for group in range(25):
        mean, right = -draw.exponential(), draw.random() < 0.5
        found += [Answered(measured(mean, mean, 0.5, 0.1), right, str(group))] * 20
    figures = fit_map(found, "exact", cut=0, alpha=0.1).figures
    assert figures.log_loss > 0.6


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (answers(20, by_entropy=True), "at least 50 whole answers are needed, got 20"),
        (
            [each for each in answers(200, by_entropy=True) if each.right],
            "at least 5 wrong answers are needed, got 0",
        ),
        (
            [Answered(each.measures, each.right, "one") for each in answers(100, by_entropy=True)],
            "at least 5 groups",
        ),
    ],
)
def test_too_few_lines_are_refused(found: list[Answered], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fit_map(found, "exact", cut=0, alpha=0.1)


def test_without_a_measure_that_changes_the_rate_is_told() -> None:
    right = np.array([True] * 8 + [False] * 2)
    fitted = fit_logistic(np.zeros((10, 1)), right)
    # The smoothed targets: eight times 9/10, twice 1/4.
    assert fitted.probs(np.zeros((1, 1)))[0] == pytest.approx((8 * 0.9 + 2 * 0.25) / 10)
    assert fitted.weights == [0]


def test_it_agrees_with_another_implementation_on_many_lines() -> None:
    draw = np.random.default_rng(0)
    rows = draw.normal(size=(20_000, 2)) * np.array([1.0, 30.0]) + np.array([5.0, -100.0])
    truth = 1 / (1 + np.exp(-(rows[:, 0] - 5 + 0.05 * (rows[:, 1] + 100) + 0.5)))
    right = draw.random(len(rows)) < truth
    fitted = fit_logistic(rows, right)
    theirs = LogisticRegression(C=1e6, max_iter=1000).fit(rows, right)
    assert fitted.weights == pytest.approx(theirs.coef_[0], rel=0.01)
    assert fitted.probs(rows) == pytest.approx(theirs.predict_proba(rows)[:, 1], abs=0.005)


def test_lines_that_a_measure_separates_give_finite_weights() -> None:
    rows = np.arange(20, dtype=np.float64)[:, None]
    fitted = fit_logistic(rows, rows[:, 0] >= 10)
    probs = fitted.probs(rows)
    assert np.isfinite(fitted.weights).all()
    assert (np.diff(probs) > 0).all()
    assert probs[9] < 0.5 < probs[10]


def test_log_loss_is_the_surprise_and_bounded() -> None:
    assert log_loss(np.array([0.5, 0.25]), np.array([True, False])) == pytest.approx(
        -(math.log(0.5) + math.log(0.75)) / 2
    )
    assert math.isfinite(log_loss(np.array([0.0]), np.array([True])))


def test_the_threshold_leaves_out_as_many_wrong_answers_as_it_must() -> None:
    probs = np.arange(1, 20) / 20  # n + 1 = 20
    right = np.ones(19, dtype=bool)
    right[[3, 7, 11]] = False  # 0.2, 0.4, 0.6
    assert risk_threshold(probs, right, 0.2) == 0.0  # (3 + 1) / 20
    assert risk_threshold(probs, right, 0.15) == 0.25
    assert risk_threshold(probs, right, 0.05) == 0.65
    assert risk_threshold(probs, right, 0.04) is None


def test_the_promise_holds_on_average() -> None:
    draw, alpha, risks = np.random.default_rng(1), 0.1, []
    for _ in range(500):
        probs = draw.random(201)
        right = draw.random(201) < probs
        threshold = risk_threshold(probs[:200], right[:200], alpha)
        risks.append(threshold is not None and probs[200] >= threshold and not right[200])
    assert np.mean(risks) <= alpha + 3 * np.sqrt(alpha * (1 - alpha) / 500)
    assert np.mean(risks) > alpha / 4


@pytest.mark.parametrize(
    ("base_risk", "alpha", "share"), [(0.2, 0.1, 1 / 9), (0.05, 0.1, 0.0), (1.0, 0.1, 1.0)]
)
def test_the_bound_on_abstention(base_risk: float, alpha: float, share: float) -> None:
    assert least_abstention(base_risk, alpha) == pytest.approx(share)
