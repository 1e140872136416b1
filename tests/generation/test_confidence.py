"""The confidence measures against values worked out by hand."""

import math

import pytest

from service.engine.contract import Part, TokenLogprobs
from service.generation.fold import ConfidenceMeter, entropy
from tools.fake_engine import FakeLikely


def token(probability: float, *others: float) -> TokenLogprobs:
    """A token, whose id is 0, beside the other likely ones at its place."""
    each = (probability, *others)
    return {number: FakeLikely(math.log(p), None) for number, p in enumerate(each)}


def part(*tokens: TokenLogprobs | None) -> Part:
    return Part(0, "", [0] * len(tokens), logprobs=tokens)


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_entropy_of_equal_chances_is_the_log_of_their_number(count: int) -> None:
    assert entropy([-3.0] * count) == pytest.approx(math.log(count))


def test_entropy_normalises_what_was_returned() -> None:
    half_and_quarter = entropy([math.log(0.5), math.log(0.25)])
    assert half_and_quarter == pytest.approx(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))


def test_entropy_takes_impossible_and_very_unlikely_tokens() -> None:
    assert entropy([0.0, -math.inf]) == 0.0
    assert entropy([-2000.0, -2000.0]) == pytest.approx(math.log(2))


def test_the_measures_of_three_tokens() -> None:
    meter = ConfidenceMeter()
    meter.add(part(token(0.5, 0.5), None, token(0.25)))
    meter.add(part(token(0.8)))
    result = meter.result()
    assert result is not None
    assert result.sequence_logprob == pytest.approx(math.log(0.5 * 0.25 * 0.8))
    assert result.mean_token_logprob == pytest.approx(math.log(0.1) / 3)
    assert result.min_token_probability == pytest.approx(0.25)
    assert result.mean_entropy == pytest.approx(math.log(2) / 3)


def test_without_a_token_there_is_no_measure() -> None:
    meter = ConfidenceMeter()
    meter.add(Part(0, "unasked", [0]))
    assert meter.result() is None
