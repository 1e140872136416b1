"""Agreement of `check_enforced` with xgrammar: an answer that a passed schema allows is valid."""

import json
from typing import Any

import hypothesis.strategies as st
import pytest
import xgrammar
from hypothesis import HealthCheck, assume, given, settings
from jsonschema_rs import is_valid

from service.errors import UnsupportedFeature
from service.limits.schema import check_enforced
from tests.limits.test_enforced import ORDINARY

TOKENS = xgrammar.TokenizerInfo([chr(number) for number in range(32, 127)])
# Without a cache, so that the compiler warns every time.
COMPILER = xgrammar.GrammarCompiler(TOKENS, max_threads=1, cache_enabled=False)

VALUES = st.sampled_from(
    [
        *(None, True, 0, 1, 7, -3, 1.5, "", "a", "ab", "abc", "2024-01-31", [], [1], ["a"]),
        *([1, "a", 2], {}, {"a": 1}, {"a": "x"}, {"b": 1}, {"a": 1, "b": "x"}, {"ab": 1}),
    ]
)
SCALARS = st.sampled_from([None, True, 1, 7, "a", "abc"])
COUNTS = st.integers(0, 3)
KEYWORDS = {
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
    "format": st.sampled_from(["date", "email", "color"]),
    "minimum": st.integers(-2, 5),
    "maximum": st.integers(-2, 9),
    "exclusiveMinimum": st.integers(-2, 5),
    "multipleOf": st.integers(2, 3),
    "minItems": COUNTS,
    "maxItems": COUNTS,
    "uniqueItems": st.booleans(),
    "required": st.lists(st.sampled_from("ab"), unique=True, max_size=2),
    "minProperties": COUNTS,
    "maxProperties": COUNTS,
    "title": st.just("x"),
    "dependentRequired": st.just({"a": ["b"]}),
}


def _nodes(child: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    nested = {
        "properties": st.dictionaries(st.sampled_from("ab"), child, max_size=2),
        "additionalProperties": st.booleans() | child,
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b"]), child, max_size=2),
        "propertyNames": child,
        "items": st.booleans() | child,
        "prefixItems": st.lists(child, min_size=1, max_size=2),
        "anyOf": st.lists(child, min_size=1, max_size=2),
        "oneOf": st.lists(child, min_size=1, max_size=2),
        "allOf": st.lists(child, min_size=1, max_size=2),
        "not": child,
        "if": child,
    }
    return st.lists(
        st.sampled_from(sorted(KEYWORDS | nested)), min_size=1, max_size=4, unique=True
    ).flatmap(lambda keys: st.fixed_dictionaries({key: (KEYWORDS | nested)[key] for key in keys}))


SCHEMAS: st.SearchStrategy[dict[str, Any]] = st.recursive(st.just({}), _nodes, max_leaves=6)


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """True if the compiler's grammar lets an answer be this value."""
    matcher = xgrammar.GrammarMatcher(COMPILER.compile_json_schema(json.dumps(schema)))
    return bool(matcher.accept_string(json.dumps(value)) and matcher.is_completed())


@settings(
    max_examples=300, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck)
)
@given(schema=SCHEMAS, value=VALUES)
def test_what_passes_is_enforced(
    schema: dict[str, Any], value: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        check_enforced(schema, "f")
    except UnsupportedFeature:
        assume(False)
    capfd.readouterr()
    try:
        accepted = accepts(schema, value)
    except RuntimeError:  # refused by the trial
        assume(False)
    assume("Warning" not in capfd.readouterr().err)  # refused by the trial, too
    assert is_valid(schema, value) or not accepted


@pytest.mark.parametrize("schema", ORDINARY)
def test_ordinary_schemas_compile(schema: dict[str, Any]) -> None:
    COMPILER.compile_json_schema(json.dumps(schema))
