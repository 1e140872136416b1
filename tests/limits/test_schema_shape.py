"""The shape of schemas: their alternatives are counted."""

from typing import Any

import pytest

from service.errors import InvalidRequest
from service.limits.schema import count_alternatives
from service.limits.structure import check_schemas
from service.settings.limits import LimitSettings

TEXT = {"type": "string"}
NUMBER = {"type": "integer"}


@pytest.mark.parametrize(
    ("schema", "count"),
    [
        (TEXT, 0),
        ({"anyOf": [TEXT, NUMBER]}, 2),
        ({"anyOf": [TEXT, NUMBER, TEXT]}, 3),
        ({"type": ["string", "null", "integer"]}, 3),
        ({"enum": ["a", 1, {"a": 1}, [1]]}, 2),
        ({"properties": {"a": {"oneOf": [TEXT, {"anyOf": [NUMBER, TEXT]}]}}}, 4),
        ({"$defs": {"a": {"anyOf": [TEXT, NUMBER]}}, "$ref": "#/$defs/a"}, 2),
        ({"const": {"anyOf": [TEXT, NUMBER]}}, 0),
        ({"properties": {"anyOf": TEXT, "enum": NUMBER}}, 0),
    ],
)
def test_alternatives_are_counted_over_the_whole_schema(schema: Any, count: int) -> None:
    assert count_alternatives(schema) == count


def test_the_cap_counts_all_schemas_of_a_request_together() -> None:
    limits = LimitSettings(schema_alternatives=6)
    branches = {"anyOf": [{"const": n} for n in range(3)]}
    check_schemas({"a": branches, "b": branches}, 1000, limits, "tools")
    with pytest.raises(InvalidRequest, match=r"tools: at most 6 alternatives .* got 9"):
        check_schemas(dict.fromkeys("abc", branches), 1000, limits, "tools")
