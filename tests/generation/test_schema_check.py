"""Whole answers are checked against what no grammar enforces of a schema."""

import pytest

from service.generation.schema_check import SchemaCheck

SCHEMA = {
    "type": "object",
    "properties": {
        "code": {"type": "string", "pattern": "^(a+)+$"},
        "day": {"type": "string", "format": "date"},
    },
    "required": ["code"],
}


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ('{"code": "aaa", "day": "2026-11-30"}', None),
        ('{"code": 3}', "breaks its schema at /code: 3 is not of type"),
        ('{"code": "a", "day": "tomorrow"}', "breaks its schema at /day"),
        ("{}", 'breaks its schema at its root: "code" is a required property'),
        ('{"code": "a"', "breaks its schema: it is not JSON"),
        ("", "breaks its schema: it is not JSON"),
        # It would take a backtracking engine seconds.
        ('{"code": "' + "a" * 40 + '!"}', "breaks its schema at /code"),
    ],
)
def test_an_answer_is_valid_or_refused_with_its_place(answer: str, says: str | None) -> None:
    refusal = SchemaCheck(SCHEMA).refuse(answer)
    assert refusal is None if says is None else refusal is not None and says in refusal
