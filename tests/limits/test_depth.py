"""The nesting depth of a value."""

from typing import Any

import pytest

from service.limits.depth import depth


@pytest.mark.parametrize(
    ("value", "levels"), [("ab", 0), (3, 0), ([], 1), ({"a": [{}, 1]}, 3), ([{"a": "b"}, [[]]], 3)]
)
def test_lists_and_objects_count(value: Any, levels: int) -> None:
    assert depth(value) == levels
