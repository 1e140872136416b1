"""The depth of a value, and the bounds of documents that are not parsed."""

from typing import Any

import pytest
from pydantic_core import to_json

from service.limits.caps import MAX_HOLDERS, MAX_STRINGS, depth, excess


@pytest.mark.parametrize(
    ("value", "levels"), [("ab", 0), (3, 0), ([], 1), ({"a": [{}, 1]}, 3), ([{"a": "b"}, [[]]], 3)]
)
def test_lists_and_objects_count(value: Any, levels: int) -> None:
    assert depth(value) == levels


@pytest.mark.parametrize(
    ("before", "each", "after", "count"),
    [
        (b"[", b"[],", b"{}]", MAX_HOLDERS - 1),
        (b"[", b"{\n},", b"1]", MAX_HOLDERS),
        (b"{", b'"[{\\"[": ["[", "\\\\", 1],', b'"": 1}', MAX_HOLDERS),
    ],
)
def test_brackets_outside_of_strings_are_counted(
    before: bytes, each: bytes, after: bytes, count: int
) -> None:
    assert excess(before + count * each + after) == "at most 10000 lists and objects"
    assert excess(before + (count - 1) * each + after) is None


def test_documents_are_counted_together() -> None:
    half = b"[" + b"[]," * (MAX_HOLDERS // 2 - 1) + b'"[["]'
    assert excess(half, half) is None
    assert excess(half, half, b"[]") is not None


@pytest.mark.parametrize("text", [b"[{" * MAX_HOLDERS, b'["' * MAX_HOLDERS, b"[" * 20_000 + b"\\"])
def test_brackets_within_a_string_are_not(text: bytes) -> None:
    assert excess(to_json(text.decode())) is None
    assert excess(b'"' + text.replace(b'"', b"")) is None


_TOO_MANY_STRINGS = "at most 40000 texts and names of fields"


@pytest.mark.parametrize(
    ("each", "strings", "least"),
    [
        (b'"a":1,', 1, 1),
        (b'"a" : "",', 2, 1),
        (b'"\\"a\\\\\\"":0,', 1, 1),
        (b'"\\\\":0,', 1, 2),  # its last quote looks like one within it
    ],
)
def test_strings_are_counted_up_to_a_factor_of_two(each: bytes, strings: int, least: int) -> None:
    most = MAX_STRINGS // strings
    assert excess(b"{" + most * each) is None
    assert excess(b"{" + (least * most + 1) * each) == _TOO_MANY_STRINGS


def test_quotes_within_a_string_are_not_counted() -> None:
    assert excess(to_json('"' * 100_000)) is None
    assert excess(to_json(r"\"" * 100_000)) is None
