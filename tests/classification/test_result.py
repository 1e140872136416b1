import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from service.classification.calibration import Array, normalise
from service.classification.result import LabelScore, ResultOptions, assemble
from service.engine.pooling import ConformalSets

NAMES = ("sport", "politics", "science")
PROBS = np.log([0.2, 0.5, 0.3])

distributions = arrays(np.float64, st.integers(1, 8), elements=st.floats(-700, 0)).map(normalise)
options = st.builds(
    ResultOptions,
    multi_label=st.just(False),
    top_k=st.none() | st.integers(1, 10),
    threshold=st.none() | st.floats(0, 1),
    conformal=st.none() | st.builds(ConformalSets.fitted, st.just(0.9), st.floats(0, 1)),
)


@given(distributions, options)
def test_every_result_is_consistent(log_probs: Array, options: ResultOptions) -> None:
    names = [f"label {at}" for at in range(len(log_probs))]
    result = assemble(names, log_probs, options)
    scores = [each.score for each in result.scores]
    assert scores == sorted(result.probs, reverse=True)[: options.top_k]
    assert sum(result.probs) == pytest.approx(1)
    assert result.score == max(result.probs)
    for each in result.scores:
        assert each.score == result.probs[names.index(each.label)]
    assert result.abstained == (result.label is None)
    assert result.abstained or result.label == result.scores[0].label
    assert (result.label_set is None) == (options.conformal is None)
    if result.label is not None and result.label_set is not None:
        assert result.label_set[0] == result.label


def test_scores_come_best_first_and_probs_in_label_order() -> None:
    result = assemble(NAMES, PROBS, ResultOptions())
    assert [each.label for each in result.scores] == ["politics", "science", "sport"]
    assert result.probs == pytest.approx((0.2, 0.5, 0.3))
    assert (result.label, result.label_set, result.abstained) == ("politics", None, False)
    assert result.score == pytest.approx(0.5)


def test_equal_scores_keep_the_order_of_the_labels() -> None:
    names = [f"label {at}" for at in range(100)]
    result = assemble(names, np.log([0.005] * 50 + [0.015] * 50), ResultOptions())
    assert [each.label for each in result.scores] == names[50:] + names[:50]


def test_top_k_shortens_the_scores_only() -> None:
    result = assemble(
        NAMES, PROBS, ResultOptions(top_k=1, conformal=ConformalSets.fitted(0.9, 0.25))
    )
    assert result.scores == (LabelScore("politics", result.score),)
    assert len(result.probs) == 3
    assert result.label_set == ("politics", "science")


def test_abstains_below_the_threshold_and_still_says_what_came_closest() -> None:
    result = assemble(NAMES, PROBS, ResultOptions(threshold=0.6))
    assert (result.label, result.abstained) == (None, True)
    assert result.scores[0] == LabelScore("politics", result.score)
    assert not assemble(NAMES, PROBS, ResultOptions(threshold=0.4)).abstained


def test_a_score_at_the_threshold_is_enough() -> None:
    certain = assemble(
        ["only"],
        np.zeros(1),
        ResultOptions(threshold=1.0, conformal=ConformalSets.fitted(0.9, 1.0)),
    )
    assert (certain.label, certain.label_set) == ("only", ("only",))


def test_abstains_when_the_conformal_set_is_empty() -> None:
    result = assemble(NAMES, PROBS, ResultOptions(conformal=ConformalSets.fitted(0.9, 0.6)))
    assert (result.label, result.label_set, result.abstained) == (None, (), True)


def test_multi_label_gives_every_label_that_applies() -> None:
    yes = np.log([0.9, 0.1, 0.95])
    result = assemble(NAMES, yes, ResultOptions(multi_label=True))
    assert result.probs == pytest.approx((0.9, 0.1, 0.95))
    assert (result.label, result.label_set) == ("science", ("science", "sport"))
    strict = assemble(NAMES, yes, ResultOptions(multi_label=True, threshold=0.92))
    assert strict.label_set == ("science",)


def test_multi_label_abstains_when_no_label_applies() -> None:
    result = assemble(NAMES, np.log([0.4, 0.1, 0.2]), ResultOptions(multi_label=True))
    assert (result.label, result.label_set, result.abstained) == (None, (), True)
    lenient = assemble(
        NAMES, np.log([0.4, 0.1, 0.2]), ResultOptions(multi_label=True, threshold=0.0)
    )
    assert lenient.label_set == ("sport", "science", "politics")


def test_several_labels_have_thresholds_of_their_own() -> None:
    sets = ConformalSets.fitted(0.9, (0.3, 0.0, 0.41))
    options = ResultOptions(multi_label=True, conformal=sets)
    result = assemble(("a", "b", "c"), np.log([0.6, 0.1, 0.4]), options)
    assert (result.label_set, result.conformal_set) == (("a",), ("a", "b"))
    none = assemble(("a", "b", "c"), np.log([0.2, 0.1, 0.4]), options)
    assert (none.label_set, none.conformal_set, none.abstained) == ((), ("b",), True)
