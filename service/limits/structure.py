"""Caps on structured output, checked before it is compiled (docs/gate.md).

The cost was measured with xgrammar 0.2: a `regex` takes microseconds a symbol, a `pattern` in a
schema grows with the square of its symbols, and a number's bounds cost as much as some of them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

from service.common.error_messages import quote
from service.errors import InvalidRequest
from service.limits.caps import check_entries, check_size, depth
from service.limits.regex import MAX_EXPANSION, check_regex
from service.limits.schema import check_enforced, count_alternatives
from service.settings.limits import LimitSettings

_MAX_SCHEMA_SYMBOLS = 512
"""Symbols that all patterns of a grammar's schemas may expand to together."""

_META = Draft202012Validator({"$ref": "https://json-schema.org/draft/2020-12/schema"})

_BOUND_KEYS = frozenset("minimum maximum exclusiveMinimum exclusiveMaximum".split())
_BOUND_SYMBOLS = 4

_REPETITION_KEYS = frozenset(
    "minLength maxLength minItems maxItems minProperties maxProperties".split()
)


def check_schema(schema: dict[str, Any], limits: LimitSettings, param: str) -> None:
    """Refuse a JSON schema that is invalid, too large, expands too far or cannot be enforced."""
    check_schemas({param: schema}, limits.schema_bytes, limits, param)
    check_enforced(schema, param)


def check_schemas(
    schemas: Mapping[str, dict[str, Any]], most_bytes: int, limits: LimitSettings, param: str
) -> None:
    """Check schemas, by their place in the request, that become one grammar; see `check_schema`.

    `most_bytes` and the expansion count all of these together, under the name `param`.
    """
    size = sum(len(json.dumps(each, ensure_ascii=False).encode()) for each in schemas.values())
    if size > most_bytes:
        raise InvalidRequest(f"{param}: at most {most_bytes} bytes, got {size}", param=param)
    symbols = alternatives = 0
    for where, schema in schemas.items():
        levels = depth(schema)
        if levels > limits.schema_depth:
            raise InvalidRequest(
                f"{where}: at most {limits.schema_depth} levels deep, got {levels}", param=where
            )
        symbols += _symbols(schema, limits, where)
        _check_meta(schema, where)
        alternatives += count_alternatives(schema)
    if alternatives > limits.schema_alternatives:
        raise InvalidRequest(
            f"{param}: at most {limits.schema_alternatives} alternatives (branches of anyOf and "
            f"oneOf, types of lists, objects in enum) together, got {alternatives}",
            param=param,
        )
    if symbols > _MAX_SCHEMA_SYMBOLS:
        raise InvalidRequest(
            f"{param}: patterns and bounds may expand to at most {_MAX_SCHEMA_SYMBOLS} symbols "
            f"together, got {symbols}; maxLength is cheaper than a counted pattern",
            param=param,
        )


def _check_meta(schema: dict[str, Any], param: str) -> None:
    try:
        _META.validate(schema)
    except ValidationError as error:
        where = "/".join(str(part) for part in error.instance_path) or "its root"
        raise InvalidRequest(
            f"{param}: not a valid JSON schema at {where}: {error.message[:120]}", param=param
        ) from None


def check_choice(choice: Sequence[str], limits: LimitSettings, param: str) -> None:
    """Refuse a list of choices that is empty or too long, or holds an empty or too long one."""
    check_entries(len(choice), limits.choices, param, "entries")
    for index, entry in enumerate(choice):
        check_size(entry, limits.choice_bytes, f"{param}[{index}]")
    check_size("".join(choice), limits.choices_bytes, param)


def _symbols(node: Any, limits: LimitSettings, param: str) -> int:
    """Symbols to which the patterns and bounds below a node expand; refuses too large ones."""
    if isinstance(node, float) and not math.isfinite(node):
        raise InvalidRequest(f"{param}: numbers must be finite, got {node}", param=param)
    if isinstance(node, list):
        return sum(_symbols(child, limits, param) for child in node)
    if not isinstance(node, dict):
        return 0
    total = 0
    for key, value in node.items():
        if key in _REPETITION_KEYS and isinstance(value, int | float) and value > MAX_EXPANSION:
            raise InvalidRequest(
                f"{param}: {key} may be at most {MAX_EXPANSION}, got {quote(value)}", param=param
            )
        if key == "pattern" and isinstance(value, str):
            total += check_regex(value, limits, f"{param}.pattern")
        if key == "patternProperties" and isinstance(value, dict):
            where = f"{param}.patternProperties"
            total += sum(check_regex(pattern, limits, where) for pattern in value)
        if key in _BOUND_KEYS:
            total += _BOUND_SYMBOLS
        total += _symbols(value, limits, param)
    return total
