"""Caps on structured output, checked before it is compiled (docs/admission.md).

The time and memory of compiling a schema are limited in service/vllm.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from jsonschema_rs import Draft202012Validator, ValidationError

from service.common.error_messages import quote
from service.errors import InvalidRequest
from service.limits.caps import check_entries, check_size, depth
from service.limits.regex import MAX_EXPANSION, check_pattern
from service.limits.schema import count_alternatives
from service.schemas.formats import NARROWER
from service.settings.limits import LimitSettings

_META = Draft202012Validator({"$ref": "https://json-schema.org/draft/2020-12/schema"})

_REPETITION_KEYS = frozenset(
    "minLength maxLength minItems maxItems minProperties maxProperties".split()
)


def check_schema(schema: dict[str, Any], limits: LimitSettings, param: str) -> None:
    """Refuse a JSON schema that is invalid or too large."""
    check_schemas({param: schema}, limits.schema_bytes, limits, param)


def check_schemas(
    schemas: Mapping[str, dict[str, Any]], most_bytes: int, limits: LimitSettings, param: str
) -> None:
    """Check schemas that are compiled into one grammar, given by their places; see `check_schema`.

    `most_bytes` and the expansion limit apply to all of them together, and errors name `param`.
    """
    size = sum(len(json.dumps(each, ensure_ascii=False).encode()) for each in schemas.values())
    if size > most_bytes:
        raise InvalidRequest(f"{param}: at most {most_bytes} bytes, got {size}", param=param)
    alternatives = 0
    for where, schema in schemas.items():
        levels = depth(schema)
        if levels > limits.schema_depth:
            raise InvalidRequest(
                f"{where}: at most {limits.schema_depth} levels deep, got {levels}", param=where
            )
        _check_numbers(schema, limits, where)
        _check_meta(schema, where)
        alternatives += count_alternatives(schema)
    if alternatives > limits.schema_alternatives:
        raise InvalidRequest(
            f"{param}: at most {limits.schema_alternatives} alternatives (branches of anyOf and "
            f"oneOf, types of lists, objects in enum) together, got {alternatives}",
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


def _check_numbers(node: Any, limits: LimitSettings, param: str) -> None:
    """Refuse numbers that are not finite, and counts and patterns that are too large."""
    if isinstance(node, float) and not math.isfinite(node):
        raise InvalidRequest(f"{param}: numbers must be finite, got {node}", param=param)
    if isinstance(node, list):
        for each in node:
            _check_numbers(each, limits, param)
    if not isinstance(node, dict):
        return
    for key, value in node.items():
        if key in _REPETITION_KEYS and isinstance(value, int | float) and value > MAX_EXPANSION:
            raise InvalidRequest(
                f"{param}: {key} may be at most {MAX_EXPANSION}, got {quote(value)}", param=param
            )
        if key == "pattern" and isinstance(value, str):
            check_pattern(NARROWER.get(value, value), limits, f"{param}.pattern")
        if key == "patternProperties" and isinstance(value, dict):
            for pattern in value:
                check_pattern(pattern, limits, f"{param}.patternProperties")
        _check_numbers(value, limits, param)
