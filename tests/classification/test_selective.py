"""Risk by coverage by hand, and AUROC against scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from service.classification.reliability import area, auroc, risk_coverage


def test_risk_grows_with_what_the_surest_get_wrong() -> None:
    confidences = np.array([0.9, 0.8, 0.7, 0.6])
    coverage, risk = risk_coverage(confidences, np.array([True, False, True, True]))
    assert coverage == pytest.approx([0.25, 0.5, 0.75, 1])
    assert risk == pytest.approx([0, 1 / 2, 1 / 3, 1 / 4])
    assert area(confidences, np.array([True] * 4)) == 0


def test_equal_confidence_shares_its_errors() -> None:
    confidences = np.array([0.5, 0.5])
    for right in ([True, False], [False, True]):
        assert risk_coverage(confidences, np.array(right))[1] == pytest.approx([0.5, 0.5])


def test_auroc_agrees_with_another_implementation_also_with_ties() -> None:
    draw = np.random.default_rng(0)
    confidences = draw.integers(0, 20, 500) / 20
    right = draw.random(500) < confidences
    assert auroc(confidences, right) == pytest.approx(roc_auc_score(right, confidences))


def test_auroc_needs_both_kinds() -> None:
    with pytest.raises(ValueError, match="right answers and wrong"):
        auroc(np.array([0.5]), np.array([True]))
