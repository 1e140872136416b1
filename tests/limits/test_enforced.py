"""Schemas that the grammar enforces and those of which it would ignore a part, keyword by keyword.

tests/engine/test_enforced.py compares the same check with the grammar compiler itself.
"""

from typing import Any

import pytest

from service.errors import UnsupportedFeature
from service.limits.schema import check_enforced

ORDINARY: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
    {"properties": {"a": {"type": "string", "maxLength": 3}}},
    {"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}, "description": "of pydantic"},
    {"allOf": [{"$ref": "#/$defs/a"}], "default": "x", "$defs": {"a": {"enum": ["x", "y"]}}},
    {"anyOf": [{"type": "integer"}, {"type": "null"}], "default": None, "title": "optional"},
    {"type": "array", "items": {"type": "number", "minimum": 0}, "minItems": 1, "maxItems": 5},
    {"enum": ["a", "b"], "type": "string"},
    {"const": "cat", "title": "Kind", "type": "string"},
    {"type": "array", "uniqueItems": False, "items": {"type": "string", "format": "date-time"}},
    {"type": "object", "anyOf": [{"properties": {"a": {}}}, {"type": "object"}]},
    {"type": "object", "additionalProperties": {"type": "integer"}},
    {"type": "object", "propertyNames": {"pattern": "^a"}},
]
"""Schemas that people write, which the compiler also takes."""


@pytest.mark.parametrize(
    "schema",
    [
        *ORDINARY,
        True,
        {"type": "integer", "minimum": 1},
        {"type": ["string", "integer"], "minimum": 1, "maxLength": 3},
        {"items": {}, "minItems": 1},
        {"prefixItems": [{}, True], "maxItems": 2},
        {"patternProperties": {"^a": {}}},
        {"type": "object", "additionalProperties": False, "minProperties": 1},
        {"type": "object", "propertyNames": True},
        {"type": "object", "unevaluatedProperties": False},
        {"type": "string", "minLength": 1, "maxLength": 2},
        {"type": "string", "format": "email"},
        {"type": "string", "pattern": "a"},
        {"enum": [1, 2.5], "type": "number"},
        {"enum": [1], "type": "integer"},
        {"enum": [True, None], "type": ["boolean", "null"]},
        {"const": [1], "type": "array"},
        {"const": 1.0, "type": "integer"},
        {"const": {}, "type": "object"},
        {"anyOf": [{"type": "integer"}, {"type": "string"}], "type": ["string", "integer"]},
        {"oneOf": [{"items": {}}], "type": "array"},
        {"allOf": [{"type": "string"}], "type": "string"},
    ],
)
def test_what_the_grammar_enforces_passes(schema: Any) -> None:
    check_enforced(schema, "f")


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "integer", "multipleOf": 5}, "multipleOf"),
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "uniqueItems": False, "contains": {}}, "contains"),
        ({"not": {}, "if": {}}, "if"),
        ({"minimum": 3, "maximum": 4}, "maximum without a type that it is about"),
        ({"type": "string", "minimum": 3}, "minimum without a type that it is about"),
        ({"required": ["a"]}, "required without a type that it is about"),
        ({"allOf": [{"type": "string"}, {"enum": ["yes"]}]}, "allOf of 2"),
        ({"$ref": "#/$defs/a", "maxLength": 1, "$defs": {"a": {}}}, "maxLength beside $ref"),
        ({"$ref": "#/$defs/a", "type": "string"}, "type beside $ref"),
        ({"$ref": "https://example.org/x"}, "$ref to 'https://example.org/x'"),
        ({"anyOf": [{}], "enum": ["a"]}, "anyOf beside enum"),
        ({"enum": ["a", 1], "type": "string"}, "type beside enum"),
        ({"enum": ["a"], "type": "string", "minLength": 1}, "minLength beside enum"),
        ({"const": True, "type": "integer"}, "type beside const"),
        ({"const": None, "type": "string"}, "type beside const"),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}], "type": "null"}, "type beside anyOf"),
        ({"anyOf": [{"type": "null"}, {}], "type": "null"}, "type beside anyOf"),
        ({"oneOf": [True], "type": "object"}, "type beside oneOf"),
        ({"type": "string", "format": "color"}, "format 'color'"),
        ({"type": "string", "pattern": "a", "maxLength": 3}, "maxLength beside pattern"),
        ({"type": "string", "format": "email", "minLength": 1}, "minLength beside format"),
        ({"type": "string", "pattern": "a", "format": "email"}, "format beside pattern"),
        ({"type": "object", "required": ["a"]}, "required: 'a' is not among the properties"),
        (
            {"properties": {"a": {}}, "required": ["a", "b"]},
            "required: 'b' is not among the properties",
        ),
        ({"patternProperties": {"a": {}, "b": {}}}, "patternProperties beside others"),
        ({"patternProperties": {"a": {}}, "properties": {}}, "patternProperties beside others"),
        (
            {"type": "object", "propertyNames": {}, "minProperties": 1},
            "propertyNames beside others",
        ),
        ({"type": "object", "unevaluatedProperties": {}}, "unevaluatedProperties"),
        ({"type": "array", "unevaluatedItems": {}}, "unevaluatedItems"),
    ],
)
def test_what_the_grammar_would_ignore_is_named(schema: dict[str, Any], said: str) -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        check_enforced(schema, "f")
    assert refused.value.message == (f"f: structured output cannot enforce {said}, at its root")
    assert refused.value.param == "f"


IGNORED: dict[str, Any] = {"not": {}}


@pytest.mark.parametrize(
    ("schema", "place"),
    [
        ({"items": IGNORED, "$defs": {"a": True}}, "/items"),
        ({"type": "object", "additionalProperties": IGNORED}, "/additionalProperties"),
        ({"type": "object", "propertyNames": IGNORED}, "/propertyNames"),
        ({"prefixItems": [{}, IGNORED]}, "/prefixItems/1"),
        ({"anyOf": [{"items": IGNORED}]}, "/anyOf/0/items"),
        ({"oneOf": [IGNORED, {}]}, "/oneOf/0"),
        ({"allOf": [IGNORED]}, "/allOf/0"),
        ({"properties": {"a": IGNORED}}, "/properties/a"),
        ({"properties": {"a" * 41: IGNORED}}, f"/properties/{'a' * 40}"),
        ({"patternProperties": {"^a": IGNORED}}, "/patternProperties/^a"),
        ({"$ref": "#/$defs/a", "$defs": {"a": IGNORED}}, "/$defs/a"),
        ({"$ref": "#/definitions/a", "definitions": {"a": IGNORED}}, "/definitions/a"),
    ],
)
def test_the_place_of_what_would_be_ignored_is_named(schema: dict[str, Any], place: str) -> None:
    with pytest.raises(UnsupportedFeature) as refused:
        check_enforced(schema, "f")
    assert refused.value.message.endswith(f"enforce not, at {place}")
