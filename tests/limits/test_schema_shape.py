"""The shape of schemas: alternatives counted, impossible parts found."""

from typing import Any

import pytest

from service.errors import InvalidRequest
from service.limits.schema import (
    count_alternatives,
    impossible_part,
    resolve,
)
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


def member(name: str, schema: Any, *, required: bool = True) -> dict[str, Any]:
    return {"type": "object", "properties": {name: schema}, "required": [name] * required}


SELF = {"$ref": "#"}


@pytest.mark.parametrize(
    ("schema", "path"),
    [
        (SELF, "/"),
        ({"anyOf": [SELF, SELF]}, "/"),
        ({"allOf": [SELF]}, "/"),
        (member("a", SELF), "/"),
        (member("a", {"type": "array", "items": SELF, "minItems": 1}), "/"),
        (member("a", {"type": "array", "prefixItems": [SELF], "minItems": 1}), "/"),
        ({"properties": {"a": {"$ref": "#/$defs/b"}}, "$defs": {"b": {"$ref": "#/$defs/b"}}},
         "/properties/a"),
        ({"anyOf": [TEXT, {"$ref": "#/$defs/a"}],
          "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}, "/anyOf/1"),
        # What can be completed.
        (member("a", SELF, required=False), None),
        ({"anyOf": [SELF, TEXT]}, None),
        (member("a", {"anyOf": [SELF, {"type": "null"}]}), None),
        (member("a", {"type": "array", "items": SELF}), None),
        (member("a", {"type": "array", "prefixItems": [TEXT], "items": SELF, "minItems": 1}), None),
        ({"$defs": {"a": TEXT}, "$ref": "#/$defs/a"}, None),
        ({"$ref": "#/$defs/unknown"}, None),
        (True, None),
    ],
)  # fmt: skip
def test_a_part_that_no_text_completes_is_found(schema: Any, path: str | None) -> None:
    assert impossible_part(schema) == path


def test_chains_of_references_are_followed_in_any_order() -> None:
    last = 300
    chain = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(last)}
    schema = {"$ref": "#/$defs/d0", "$defs": chain | {f"d{last}": TEXT}}
    assert impossible_part(schema) is None
    assert impossible_part(schema | {"$defs": chain | {f"d{last}": {"$ref": "#"}}}) == "/"


def test_references_are_resolved_by_json_pointer() -> None:
    root = {"$defs": {"a/b": {"anyOf": [TEXT, NUMBER]}, "c~d": TEXT}}
    assert resolve(root, "#/$defs/a~1b/anyOf/1") == NUMBER
    assert resolve(root, "#/$defs/c~0d") == TEXT
    assert resolve(root, "#") is root
    for wrong in ("#/$defs/x", "#/$defs/a~1b/anyOf/2", "#/$defs/a~1b/anyOf/x", "other", None):
        assert resolve(root, wrong) is None
