"""Keyword by keyword: what the grammar of a rewritten schema allows, and what it leaves."""

from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, assume, given, settings

from service.schemas.parts import TooLarge
from service.schemas.rewrite import Unresolved, rewrite
from service.vllm.grammar_text import Impossible
from tests.schemas.grammars import accepts, compiled, is_valid, written

DIGITS = {"type": "string", "pattern": "^[0-9]+$"}
PAIR = {"type": "array", "items": {"enum": ["a", "b"]}, "uniqueItems": True}
BRANCHES = {
    "oneOf": [{"$ref": "#/$defs/x"}, {"$ref": "#/$defs/y"}],
    "$defs": {
        "x": {"type": "object", "properties": {"k": {"const": "x"}}, "required": ["k"]},
        "y": {"type": "object", "properties": {"k": {"const": "y"}}, "required": ["k"]},
    },
}
COUNTRY = {
    "type": "object",
    "properties": {"c": {"enum": ["US", "NL"]}, "n": {"type": "integer"}},
    "required": ["c"],
    "additionalProperties": False,
    "if": {"properties": {"c": {"const": "US"}}},
    "then": {"required": ["n"]},
    "else": {"properties": {"n": {"maximum": 3}}},
}


@pytest.mark.parametrize(
    ("schema", "allowed", "excluded"),
    [
        (DIGITS | {"minLength": 2, "maxLength": 3}, ["12", "123"], ["1", "1234", "ab"]),
        ({"type": "string", "pattern": "b"}, ["b", "abc"], ["", "ac"]),
        ({"type": "string", "pattern": "^a|b$"}, ["ax", "xb"], ["xa", "bx"]),
        ({"type": "string", "pattern": r"^(?=.*\d)[a-z0-9]+$"}, ["a1", "1"], ["a", "1-"]),
        ({"type": "string", "pattern": r"^x(?:\.\d+)?$"}, ["x", "x.1"], ["x1"]),
        ({"type": "string", "minLength": 1, "maxLength": 2}, ["é", "ab"], ["", "abc"]),
        ({"type": "string", "format": "date"}, ["2024-02-29"], ["2023-02-29", "2024-13-01"]),
        ({"type": "string", "format": "ipv6"}, ["::1", "1:2:3:4:5:6:7:8"], ["1:2", "::1::"]),
        ({"type": "string", "format": "colour"}, ["anything"], [1]),
        (
            {"type": "string", "format": "uuid", "pattern": "^[a-f0-9-]+$"},
            ["0" * 8 + "-0000-4000-8000-" + "a" * 12],
            ["0" * 8 + "-0000-4000-8000-" + "A" * 12],
        ),
        ({"type": "string", "not": {"enum": ["no", "none"]}}, ["non", "yes"], ["no", "none"]),
        ({"type": "integer", "multipleOf": 3}, [0, 3, -12, 99], [1, -2, 100]),
        ({"type": "integer", "multipleOf": 3, "minimum": 10}, [12, 300], [9, 3, 13, -12]),
        (
            {"type": "integer", "multipleOf": 7, "minimum": -100, "maximum": 1000},
            [-98, 0, 994],
            [-105, 1001, 5],
        ),
        ({"type": "number", "multipleOf": 5}, [5, -10], [1, 2.5]),
        ({"type": "number", "multipleOf": 0.5, "minimum": 0, "maximum": 1}, [0, 0.5, 1], [1.5]),
        ({"type": "integer", "not": {"const": 2}, "minimum": 1, "maximum": 3}, [1, 3], [2]),
        ({"type": "boolean", "not": {"const": True}}, [False], [True]),
        (
            {
                "type": ["object", "string"],
                "if": {"type": "object", "properties": {"k": {"const": "a"}}, "required": ["k"]},
                "then": {"required": ["z"]},
                "else": {"type": "object"},
            },
            [{"k": "a", "z": 1}],
            ["x", {"k": "a"}],
        ),
        (
            {
                "type": "string",
                "if": {"properties": {"k": {"const": 1}}},
                "then": {"minLength": 1},
                "dependentRequired": {"a": ["b"]},
            },
            ["x"],
            ["", {"k": 1}],
        ),
        (
            {
                "properties": {"k": {"type": "string"}, "z": {}},
                "if": {"properties": {"k": {"enum": ["a", 1], "type": "integer"}}},
                "then": {"required": ["z"]},
                "additionalProperties": False,
            },
            [{"k": "a"}],
            [{}],
        ),
        ({"type": "object", "additionalProperties": {}, "minProperties": 1}, [{"a": 1}], [{}]),
        (PAIR, [[], ["b", "a"], ["a"]], [["a", "a"], ["a", "b", "a"]]),
        (PAIR | {"minItems": 2}, [["a", "b"]], [["a"], []]),
        (PAIR | {"maxItems": 1}, [["a"], []], [["a", "b"]]),
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": False}, [["a", "a"]], []),
        (
            {"type": "array", "prefixItems": [{"type": "integer"}], "items": False},
            [[1], []],
            [[1, 2], ["a"]],
        ),
        ({"enum": ["a", "abc", 3], "type": "string", "minLength": 2}, ["abc"], ["a", 3]),
        ({"allOf": [{"type": "string"}, {"enum": ["yes", 1]}]}, ["yes"], [1]),
        (
            {"$ref": "#/$defs/s", "maxLength": 1, "$defs": {"s": {"type": "string"}}},
            ["", "a"],
            ["ab", 1],
        ),
        (
            {"anyOf": [{"type": "integer"}, {"type": "string"}], "type": ["string", "null"]},
            ["a"],
            [1, None],
        ),
        (BRANCHES, [{"k": "x"}, {"k": "y"}], [{"k": "z"}, {}]),
        (COUNTRY, [{"c": "US", "n": 9}, {"c": "NL"}], [{"c": "US"}, {"c": "NL", "n": 9}]),
        (
            {
                "type": "object",
                "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
                "dependentRequired": {"a": ["b"]},
                "additionalProperties": False,
            },
            [{"b": 1}, {"a": 1, "b": 1}, {}],
            [{"a": 1}],
        ),
        (
            {
                "type": "object",
                "propertyNames": {"enum": ["a", "b"]},
                "additionalProperties": {"type": "integer"},
            },
            [{"a": 1}, {}],
            [{"c": 1}, {"a": "x"}],
        ),
        (
            {
                "type": "object",
                "propertyNames": {"pattern": "^x", "maxLength": 2},
                "additionalProperties": {"type": "integer"},
            },
            [{"xa": 1}, {}],
            [{"a": 1}, {"xab": 1}],
        ),
        (
            {
                "type": "object",
                "patternProperties": {"^a": {"type": "integer"}, "b$": {"type": "string"}},
            },
            [{"a": 1}],
            [{"a": "x"}, {"ab": 1}],
        ),
        (
            {
                "properties": {"a": {"type": "integer"}},
                "patternProperties": {"^a": {"maximum": 3}},
                "required": ["a", "b"],
            },
            [{"a": 3, "b": "x"}],
            [{"a": 4, "b": 1}, {"a": 3}],
        ),
        (
            {"properties": {"a": {}, "b": {}}, "not": {"required": ["b"]}},
            [{"a": 1}, {}],
            [{"b": 1}, {"a": 1, "b": 1}],
        ),
        (
            {"allOf": [{"properties": {"a": {"type": "integer"}}}], "unevaluatedProperties": False},
            [{"a": 1}],
            [{"b": 1}],
        ),
    ],
)
def test_what_is_enforced(schema: dict[str, Any], allowed: list[Any], excluded: list[Any]) -> None:
    assert written(schema).unenforced == ()
    grammar = compiled(schema)
    assert [value for value in allowed if not is_valid(schema, value)] == []
    assert [value for value in allowed if not accepts(grammar, value)] == []
    assert [value for value in excluded if accepts(grammar, value)] == []


@pytest.mark.parametrize(
    ("schema", "left"),
    [
        ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "uniqueItems"),
        ({"type": "array", "contains": {"type": "integer"}}, "contains"),
        ({"type": "string", "pattern": r"\bword\b"}, "pattern"),
        ({"type": "string", "pattern": r"^(a)\1$"}, "pattern"),
        ({"type": "string", "pattern": "^a.*", "maxLength": 2000}, "maxLength"),
        ({"type": "string", "format": "json-pointer", "minLength": 1}, "minLength"),
        ({"type": "number", "not": {"const": 2}}, "not"),
        ({"type": "object", "not": {"properties": {"a": {"type": "string"}}}}, "not"),
        ({"oneOf": [{"type": "integer"}, {"type": "number", "minimum": 0}]}, "oneOf"),
        ({"if": {"type": "object", "minProperties": 1}, "then": {"required": ["a"]}}, "if"),
        ({"type": "number", "multipleOf": 0.0000001}, "multipleOf"),
        ({"type": "object", "patternProperties": {"^a": {}}, "minProperties": 1}, "minProperties"),
        ({"type": "object", "additionalProperties": True, "minProperties": 2}, "minProperties"),
    ],
)
def test_what_is_left_is_named_with_its_path(schema: dict[str, Any], left: str) -> None:
    nested = {"type": "object", "properties": {"a/b": {"items": schema, "type": "array"}}}
    assert [str(each) for each in rewrite(schema).unenforced] == [f"{left}, at its root"]
    place = "/properties/a~1b/items"
    assert [str(each) for each in rewrite(nested).unenforced] == [f"{left}, at {place}"]


@pytest.mark.parametrize(
    "schema",
    [
        False,
        {"not": {}},
        {"type": "string", "minLength": 3, "maxLength": 2},
        {"type": "string", "pattern": "^a$", "minLength": 2},
        {"type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2},
        {"enum": ["a"], "type": "integer"},
        {"type": "object", "properties": {"a": False}, "required": ["a"]},
        {"allOf": [{"type": "string"}, {"type": "integer"}]},
        {"anyOf": [{"type": "string"}], "type": "null"},
    ],
)
def test_what_allows_nothing_is_found(schema: Any) -> None:
    with pytest.raises(Impossible):
        written(schema)


@pytest.mark.parametrize("reference", ["https://example.org/x", "#/$defs/none", "other"])
def test_references_to_elsewhere_are_refused(reference: str) -> None:
    with pytest.raises(Unresolved, match=r"\$ref to .* at /properties/a"):
        rewrite({"properties": {"a": {"$ref": reference}}})


def test_recursion_stays_recursion() -> None:
    tree = {
        "type": "object",
        "properties": {
            "v": {"type": "integer"},
            "next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]},
        },
        "required": ["v"],
        "additionalProperties": False,
    }
    grammar = compiled(tree)
    assert accepts(grammar, {"v": 1, "next": {"v": 2, "next": None}})
    assert not accepts(grammar, {"v": 1, "next": {"v": "x"}})


def test_recursion_beside_other_keywords_ends() -> None:
    schema = {
        "$ref": "#/$defs/n",
        "required": ["v"],
        "$defs": {
            "n": {
                "type": "object",
                "properties": {"v": {"type": "integer"}, "n": {"$ref": "#/$defs/n"}},
                "additionalProperties": False,
            }
        },
    }
    grammar = compiled(schema)
    assert accepts(grammar, {"v": 1, "n": {"n": {}}})
    assert not accepts(grammar, {"n": {"v": 1}})


def test_branches_that_multiply_are_refused() -> None:
    branches = [{"properties": {f"p{n}": {"type": "integer"}}} for n in range(10)]
    schema = {"allOf": [{"anyOf": branches} for _ in range(6)]}
    with pytest.raises(TooLarge):
        rewrite(schema)


def test_texts_of_the_schema_are_never_taken_for_rules() -> None:
    schema = {"type": "object", "properties": {"@0@0@": DIGITS}, "required": ["@0@0@"]}
    grammar = compiled(schema)
    assert accepts(grammar, {"@0@0@": "12"})
    assert not accepts(grammar, {"@0@0@": "x"})


VALUES = st.sampled_from(
    [
        *(None, True, 0, 1, 7, -3, 6, "", "a", "ab", "abc", "2024-01-31", [], [1], ["a"]),
        *([1, "a", 2], ["a", "b"], {}, {"a": 1}, {"a": "x"}, {"b": 1}, {"a": 1, "b": "x"}),
    ]
)
SCALARS = st.sampled_from([None, True, 1, 7, "a", "abc"])
COUNTS = st.integers(0, 3)
NAMES = st.sampled_from("ab")
KEYWORDS: dict[str, st.SearchStrategy[Any]] = {
    "type": st.sampled_from(
        [
            *("string", "integer", "number", "object", "array", "null", "boolean"),
            *(["string", "null"], ["integer", "string"]),
        ]
    ),
    "enum": st.lists(SCALARS, min_size=1, max_size=3),
    "const": SCALARS,
    "minLength": COUNTS,
    "maxLength": COUNTS,
    "pattern": st.sampled_from(["^a", "b$", "^[a-c]+$", "a"]),
    "format": st.sampled_from(["date", "email", "colour"]),
    "minimum": st.integers(-2, 5),
    "maximum": st.integers(-2, 9),
    "exclusiveMinimum": st.integers(-2, 5),
    "multipleOf": st.integers(2, 3),
    "minItems": COUNTS,
    "maxItems": COUNTS,
    "uniqueItems": st.booleans(),
    "required": st.lists(NAMES, unique=True, max_size=2),
    "minProperties": COUNTS,
    "maxProperties": COUNTS,
    "title": st.just("x"),
    "dependentRequired": st.dictionaries(NAMES, st.just(["b"]), max_size=2),
    "$ref": st.just("#/$defs/a"),
}


def _nodes(child: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    branches = st.lists(child, min_size=1, max_size=2)
    nested: dict[str, st.SearchStrategy[Any]] = {
        "properties": st.dictionaries(NAMES, child, max_size=2),
        "additionalProperties": st.booleans() | child,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), child, max_size=2),
        "propertyNames": child,
        "unevaluatedProperties": st.booleans() | child,
        "items": st.booleans() | child,
        "prefixItems": branches,
        "anyOf": branches,
        "oneOf": branches,
        "allOf": branches,
        "not": child,
        "if": child,
        "then": child,
        "else": child,
        "dependentSchemas": st.dictionaries(NAMES, child, max_size=1),
    }
    choice = KEYWORDS | nested
    return st.lists(st.sampled_from(sorted(choice)), min_size=1, max_size=4, unique=True).flatmap(
        lambda keys: st.fixed_dictionaries({key: choice[key] for key in keys})
    )


SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.recursive(st.just({}), _nodes, max_leaves=6)


@settings(max_examples=250, suppress_health_check=list(HealthCheck))
@given(schema=SCHEMAS, shared=SCHEMAS, value=VALUES)
def test_every_answer_of_a_random_schema_is_valid(
    schema: dict[str, Any], shared: dict[str, Any], value: Any
) -> None:
    whole = schema | {"$defs": {"a": shared}}
    try:
        assume(not written(whole).unenforced)
        grammar = compiled(whole)
    except (Impossible, TooLarge):
        assume(False)
    assert is_valid(whole, value) or not accepts(grammar, value)
