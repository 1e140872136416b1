"""Schemas that programs write: all are enforced whole, and random answers are valid."""

import random
from typing import Any

import pytest

from service.limits.structure import check_schema
from service.settings.limits import LimitSettings
from tests.schemas.corpus import CORPUS
from tests.schemas.grammars import compiled, is_valid, parse, sample, written

EMPTY = {
    "zod string.regex.includes",
    "zod string.regex.startsWith",
    "zod string.regex.endsWith",
    "zod string.regex.lowercase",
}
"""Pairs that exclude each other: no text is valid."""


@pytest.mark.parametrize("name", sorted(CORPUS.keys() - EMPTY))
def test_random_answers_are_valid(name: str) -> None:
    schema: dict[str, Any] = CORPUS[name]
    assert written(schema).unenforced == ()
    grammar = compiled(schema)
    rng = random.Random(name)
    answers = [answer for _ in range(2) if (answer := sample(grammar, rng)) is not None]
    assert answers
    assert [answer for answer in answers if not is_valid(schema, parse(answer))] == []


@pytest.mark.parametrize("name", CORPUS)
def test_no_limit_refuses_what_programs_write(name: str) -> None:
    check_schema(CORPUS[name], LimitSettings(), "schema")
