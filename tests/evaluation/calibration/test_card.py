"""The card's section on p_correct."""

from typing import Any

import pytest

from evaluation.calibration.card import confidence_section
from service.adapters.confidence import ConfidenceMap
from tests.evaluation.calibration.samples import AGREEMENT, CONFIDENCE


def section(**changes: Any) -> str:
    return confidence_section(ConfidenceMap.model_validate(CONFIDENCE | changes, strict=False))


@pytest.mark.parametrize(
    "told",
    [
        "measured on 100 held-out lines (0 more were cut)",
        "20.0% of the answers were wrong",
        "| AUROC | 0.800 | 0.800 |",
        "| accuracy of the surest 80 % | 0.900 |  |",
        "With a `min_confidence` of 0.400 at most 10.0% of requests get a wrong answer.",
        "At least 11.1% must be withheld",
    ],
)
def test_figures_are_told(told: str) -> None:
    assert told in section()


def test_a_map_with_agreement_stands_beside_the_one_without() -> None:
    told = section(agreement=AGREEMENT)
    assert "| AUROC | 0.800 | 0.850 | 0.800 |" in told
    assert "With `agreement` a request samples 4 more answers at temperature 1:" in told
    assert "With a `min_confidence` of 0.300 at most 10.0% of requests" in told
    assert "agreement" not in section()


def test_figures_of_the_raw_mean_log_probability_stand_beside_those_of_the_map() -> None:
    raw = {"ece_mean_logprob": 0.2, "aurc_mean_logprob": 0.07}
    accuracy = {"at_50": 0.9, "at_80": 0.85, "at_100": 0.8}
    figures = CONFIDENCE["figures"] | raw | {"accuracy_mean_logprob": accuracy}
    told = section(figures=figures)
    assert "| calibration error (ECE) | 0.030 | 0.200 |" in told
    assert "| area under risk and coverage (AURC) | 0.0500 | 0.0700 |" in told
    assert "| accuracy of the surest 50 % | 0.950 | 0.900 |" in told


def test_a_reliability_diagram_is_a_table() -> None:
    bins = [{"confidence": 0.55, "accuracy": 0.5, "count": 40}]
    assert "| 0.550 | 0.500 | 40 |" in section(
        figures=CONFIDENCE["figures"] | {"reliability": bins}
    )
    assert "mean p_correct" not in section()


def test_errors_by_coverage_are_a_diagram() -> None:
    risk = [0.0, 0.0, 0.0, 0.0, 0.05, 0.05, 0.05, 0.1, 0.1, 0.2]
    told = section(figures=CONFIDENCE["figures"] | {"risk": risk})
    assert "[10, 20, 30, 40, 50, 60, 70, 80, 90, 100]" in told
    assert "line [0.0, 0.0, 0.0, 0.0, 0.05, 0.05, 0.05, 0.1, 0.1, 0.2]" in told
    assert "xychart" not in section()


def test_a_promise_that_no_threshold_keeps_is_not_made() -> None:
    risk = CONFIDENCE["risk_control"] | {"threshold": None}
    assert "No `min_confidence` is shown" in section(risk_control=risk)
