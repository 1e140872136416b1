"""The automata of patterns, compared with interegular's own."""

import random
from typing import Any

import pytest

from service.schemas.formats import FORMATS, SHORTER
from service.schemas.languages import Language, languages_of


def pattern(chance: random.Random, depth: int = 0) -> str:
    """A pattern of a few letters, groups and repetitions."""
    one = chance.random()
    if depth > 3 or one < 0.3:
        return chance.choice(["a", "b", "[ab]", "[^a]", "c"])
    first, more = pattern(chance, depth + 1), pattern(chance, depth + 1)
    if one < 0.55:
        return first + more
    if one < 0.75:
        return f"(?:{first}|{more})"
    return f"(?:{first}){chance.choice(['*', '+', '?', '{1,3}'])}"


def of(text: str) -> Any:
    ((language, excluded),) = languages_of(f"^{text}$")
    assert not excluded
    return language


def is_smallest(language: Language) -> bool:
    """The same language as interegular's reduction of it, with as few states."""
    ours = language._automaton
    reduced = ours.reduce()
    return bool(ours.equivalent(reduced)) and len(ours.states) == len(reduced.states)


def test_formats_have_the_fewest_states() -> None:
    found = (*FORMATS.values(), *(each for more in SHORTER.values() for each in more))
    assert all(is_smallest(of(text[1:-1])) for text in found if "|" not in text)


@pytest.mark.parametrize("seed", range(100))
def test_operations_have_the_language_and_the_fewest_states(seed: int) -> None:
    chance = random.Random(seed)
    one, other = of(f"(?:{pattern(chance)})"), of(f"(?:{pattern(chance)})")
    both, without = one & other, one - other
    assert all(map(is_smallest, (one, other, both, without)))
    assert both._automaton.equivalent(one._automaton & other._automaton)
    assert without._automaton.equivalent(one._automaton - other._automaton)
    assert both.is_empty == (one._automaton & other._automaton).empty()
