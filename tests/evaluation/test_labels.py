"""Sums over the tokens of a label that completions echo."""

import pytest

from evaluation.labels import seam_sum
from service.errors import ConfigurationError


def test_the_tokens_that_spell_the_label_are_summed() -> None:
    tokens = ["<s>", "Review", ":", " very", " good"]
    logs = [None, -1.0, -2.0, -0.5, -0.25]
    assert seam_sum(tokens, logs, " good") == -0.25
    assert seam_sum(tokens, logs, " very good") == -0.75


@pytest.mark.parametrize("tokens", [["Review", ": go", "od"], ["Review", ":", " goods"], [" go"]])
def test_a_label_within_a_token_is_refused(tokens: list[str]) -> None:
    with pytest.raises(ConfigurationError, match="does not begin at a token of its own"):
        seam_sum(tokens, [-1.0] * len(tokens), " good")
