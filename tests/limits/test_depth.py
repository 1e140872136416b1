"""The nesting depth of a value."""

from typing import Any

import pytest
from pydantic_core import to_json

from service.limits.depth import MAX_HOLDERS, depth, has_many_holders


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
    assert has_many_holders(before + count * each + after)
    assert not has_many_holders(before + (count - 1) * each + after)


def test_documents_are_counted_together() -> None:
    half = b"[" + b"[]," * (MAX_HOLDERS // 2 - 1) + b'"[["]'
    assert not has_many_holders(half, half)
    assert has_many_holders(half, half, b"[]")


@pytest.mark.parametrize("text", [b"[{" * MAX_HOLDERS, b'["' * MAX_HOLDERS, b"[" * 20_000 + b"\\"])
def test_brackets_within_a_string_are_not(text: bytes) -> None:
    assert not has_many_holders(to_json(text.decode()))
    assert not has_many_holders(b'"' + text.replace(b'"', b""))
