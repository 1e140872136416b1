"""Length distributions against the traces they stand for."""

import numpy as np
import pytest
from pydantic import ValidationError

from loadtests.load.lengths import Fixed, Profile, Quantiles, Uniform

AZURE_CODE = Profile(name="azure-code", side="input")


@pytest.mark.parametrize(
    ("name", "side", "expected"),
    [
        ("azure-code", "input", (1469, 5194, 7436)),
        ("azure-code", "output", (13, 55, 252)),
        ("azure-chat", "input", (1020, 2735, 4142)),
        ("mooncake-chat", "output", (350, 597, 1120)),
    ],
)
def test_profiles_have_the_measured_quantiles(
    name: str, side: str, expected: tuple[int, int, int]
) -> None:
    profile = Profile.model_validate({"name": name, "side": side})
    rng = np.random.default_rng(0)
    drawn = [profile.sample(rng) for _ in range(20_000)]
    assert np.percentile(drawn, [50, 90]) == pytest.approx(expected[:2], rel=0.06)
    assert np.percentile(drawn, 99) == pytest.approx(expected[2], rel=0.12)


def test_scale_fits_a_trace_to_a_small_model() -> None:
    small = Profile(name="azure-code", side="input", scale=0.01).quantiles()
    assert [small.at(p) for p in (0.5, 0.9, 0.99)] == [15, 52, 74]


def test_lengths_are_cut_to_the_longest_and_never_empty() -> None:
    tail = Quantiles(p50=2, p90=100, p99=10_000, longest=500)
    rng = np.random.default_rng(0)
    drawn = [tail.sample(rng) for _ in range(5000)]
    assert min(drawn) >= 1
    assert max(drawn) == 500


def test_uniform_and_fixed() -> None:
    rng = np.random.default_rng(0)
    assert {Uniform(low=3, high=5).sample(rng) for _ in range(200)} == {3, 4, 5}
    assert Fixed(tokens=9).sample(rng) == 9


@pytest.mark.parametrize(
    ("model", "values", "message"),
    [
        (Uniform, {"low": 5, "high": 3}, "low=5, high=3"),
        (Quantiles, {"p50": 9, "p90": 9, "p99": 10}, "p50=9"),
        (Fixed, {"tokens": 0}, "tokens"),
    ],
)
def test_impossible_lengths_are_refused_by_name(
    model: type[Fixed], values: dict[str, int], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        model.model_validate(values)
