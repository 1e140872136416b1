"""Agreement of sampled answers with the greedy one, and what counts as the same answer."""

import json
from collections.abc import Sequence

from service.adapters.confidence import Match
from service.adapters.golden import GenerationExample
from service.adapters.golden_score import matches
from service.adapters.manifest import GenerationGolden


def same_answer(expected: str, answer: str, match: Match) -> bool:
    """True if an answer matches the expected one, as `golden_score.matches` compares them.

    Under `json` an expected answer that is not JSON matches none.
    """
    try:
        expect = json.loads(expected) if match == "json" else expected
    except (ValueError, RecursionError):
        return False
    return matches(
        GenerationExample(expect=expect), answer, GenerationGolden(file="answers", match=match)
    )


def agreement(answer: str, siblings: Sequence[str], match: Match) -> float:
    """The share of siblings, in 0..1, that are the same as the answer."""
    return sum(same_answer(answer, each, match) for each in siblings) / len(siblings)
