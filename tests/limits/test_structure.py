"""The caps on structured output, at their edges and beyond."""

import json
import math
from typing import Any

import pytest

from service.errors import InvalidRequest
from service.limits.regex import check_regex
from service.limits.structure import check_choice, check_schema
from service.settings.limits import LimitSettings

LIMITS = LimitSettings()


def nested(depth: int) -> dict[str, Any]:
    """A schema of that many levels."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth - 1):
        schema = {"items": schema}
    return schema


def sized(size: int) -> dict[str, Any]:
    """A schema of that many bytes."""
    return {"title": "x" * (size - len(json.dumps({"title": ""})))}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        nested(16),
        sized(16 * 1024),
        {"type": "array", "minItems": 4096},
        {"properties": {"pattern": {"type": "string", "pattern": "^[a-z]{1,64}$"}}},
        {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        {"patternProperties": {"^x-": {"type": "integer"}}},
        {"type": "string", "pattern": "a?" * 512},
    ],
)
def test_a_schema_within_the_caps_passes(schema: Any) -> None:
    check_schema(schema, LIMITS, "f")


@pytest.mark.parametrize(
    ("schema", "message"),
    [
        (nested(17), "at most 16 levels deep, got 17"),
        (sized(16 * 1024 + 1), "at most 16384 bytes, got 16385"),
        ({"title": "é" * 16000}, "at most 16384 bytes, got 32013"),
        ({"type": "array", "minItems": 4097}, "minItems may be at most 4096, got 4097"),
        ({"items": {"maxLength": 10**300}}, "maxLength may be at most 4096, got an integer of 997"),
        ({"anyOf": [{"pattern": "(a{1000}){1000}"}]}, "may expand to at most 4096 symbols"),
        ({"patternProperties": {"(a{1000}){1000}": {}}}, "may expand to at most 4096 symbols"),
        ({"pattern": "("}, "not a valid regular expression"),
        ({"type": "strin"}, "not a valid JSON schema at type"),
        ({"properties": {"a": 3}}, "not a valid JSON schema at properties/a"),
        ({"enum": [1, math.inf]}, "must be finite, got inf"),
        ({"maximum": -math.inf}, "must be finite, got -inf"),
    ],
)
def test_a_schema_beyond_a_cap_is_refused_with_the_limit_and_the_value(
    schema: Any, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        check_schema(schema, LIMITS, "f")
    assert refused.value.message.startswith("f")
    assert refused.value.message.startswith(refused.value.param or "?")


@pytest.mark.parametrize(
    "pattern",
    ["a", "(yes|no)", "[0-9]{4}-[0-9]{2}", "a{4096}", "(ab){2048}", "a*b+c?", "a" * 1024, "[[a]"],
)
def test_a_regex_within_the_caps_passes(pattern: str) -> None:
    check_regex(pattern, LIMITS, "f")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("", r"1\.\.1024 bytes, got 0"),
        ("a" * 1025, r"1\.\.1024 bytes, got 1025"),
        ("é" * 513, r"1\.\.1024 bytes, got 1026"),
        ("(", "not a valid regular expression: missing \\)"),
        ("*", "nothing to repeat"),
        ("a{4097}", "at most 4096 symbols, got 4097"),
        ("a{1,99999999999}", "not a valid regular expression"),
        ("((a{64}){64}){64}", "got 262144"),
        ("(a{64}|b{64}){64}", "got 8192"),
        ("(a{100}){100,}", "got 10000"),
        ("(?=(a{1000}){1000})", "got 1000000"),
        ("(?!(a{1000}){1000})", "got 1000000"),
        ("(?>(a{1000}){1000})", "got 1000000"),
        ("(b)?(?(1)(a{100}){100}|c)", "got 1000"),
        ("b{4000}(a{97})", "got 4097"),
        ("b{4000}(?=a{97})", "got 4097"),
        ("b{4000}(?>a{97})", "got 4097"),
        ("(b)b{4000}(?(1)a{97}|c)", "got 4099"),
        ("a" * 97 + "b{4000}|" + "a" * 97 + "c", "got 4098"),
        ("(" * 500 + ")" * 500, "nested too deeply|sub-patterns|at most"),
    ],
)
def test_a_regex_beyond_a_cap_is_refused_with_the_limit_and_the_value(
    pattern: Any, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        check_regex(pattern, LIMITS, "f")
    assert refused.value.message.startswith("f: ")
    assert refused.value.param == "f"


@pytest.mark.parametrize("choice", [["a"], ["a", "a b"], ["x" * 1024] * 32, ("a", "b")])
def test_a_choice_within_the_caps_passes(choice: Any) -> None:
    check_choice(choice, LIMITS, "f")


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ([], r"f: 1\.\.256 entries, got 0"),
        (["a"] * 257, r"f: 1\.\.256 entries, got 257"),
        (["a", ""], r"f\[1\]: 1\.\.1024 bytes, got 0"),
        (["x" * 1025], r"f\[0\]: 1\.\.1024 bytes, got 1025"),
        (["x" * 1024] * 33, r"f: 1\.\.32768 bytes, got 33792"),
    ],
)
def test_a_choice_beyond_a_cap_is_refused_with_the_limit_and_the_value(
    choice: Any, message: str
) -> None:
    with pytest.raises(InvalidRequest, match=message) as refused:
        check_choice(choice, LIMITS, "f")
    assert (refused.value.param or "").startswith("f")
