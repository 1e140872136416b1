"""The map of answers whose truth is known."""

from dataclasses import replace

import numpy as np
import pytest

from evaluation.calibration.fit import Answered, fit_map
from service.adapters.confidence import Siblings
from service.errors import ConfigurationError
from service.generation.confidence import Confidence

SIBLINGS = Siblings(samples=8, temperature=1.0)


def answers(count: int, *, by_entropy: bool, seed: int = 0) -> list[Answered]:
    """Answers that are right as their entropy tells, or as their mean log-probability tells."""
    draw = np.random.default_rng(seed)
    found = []
    for number in range(count):
        mean, entropy = -draw.exponential(0.5), draw.exponential(0.5)
        score = 3 - 6 * (entropy if by_entropy else -mean)
        right = draw.random() < 1 / (1 + np.exp(-score))
        measures = Confidence(10 * mean, mean, draw.random(), entropy)
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
        found.append(replace(each, confidence=replace(each.confidence, agreement=share)))
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
        found += [Answered(Confidence(mean, mean, 0.5, 0.1), right, str(group))] * 20
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
            [
                Answered(each.confidence, each.right, "one")
                for each in answers(100, by_entropy=True)
            ],
            "at least 5 groups",
        ),
    ],
)
def test_too_few_lines_are_refused(found: list[Answered], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        fit_map(found, "exact", cut=0, alpha=0.1)
