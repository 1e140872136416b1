"""JSON schemas: what the grammar compiler enforces of them, and their alternatives.

The compiler ignores what it does not enforce. Found by experiments with xgrammar 0.2
(tests/engine/test_enforced.py compares it with a validator):
a node is read as one of `$ref`, `const`, `enum`, `allOf` of one, `anyOf`, `oneOf`, or by its type,
in this order, and keywords beside the first of these are ignored. Annotations may be anywhere.

A keyword that a new compiler enforces moves from `_NEVER` to its type in `_BY_TYPE`; if its value
holds schemas, it is named in `_SINGLE`, `_LISTS` or `_MAPS` too.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from jsonschema_rs import validator_for

from service.common.error_messages import quote
from service.errors import UnsupportedFeature

_WHOLE = ("$ref", "const", "enum", "allOf", "anyOf", "oneOf")
"""Keywords of which a node is read by the first, in this order, instead of by its type."""

_BY_TYPE: Mapping[str, frozenset[str]] = {
    "string": frozenset("minLength maxLength pattern format".split()),
    "number": frozenset("minimum maximum exclusiveMinimum exclusiveMaximum".split()),
    "array": frozenset("items prefixItems minItems maxItems unevaluatedItems".split()),
    "object": frozenset(
        """properties required additionalProperties patternProperties propertyNames minProperties
        maxProperties unevaluatedProperties""".split()
    ),
}
"""Keywords that are enforced in a node of a type; `number` stands for integers too."""

_NEVER = frozenset(
    """multipleOf uniqueItems contains minContains maxContains not if then else additionalItems
    dependentRequired dependentSchemas dependencies $dynamicRef $recursiveRef""".split()
)
_FORMATS = frozenset(
    """email date time date-time duration ipv4 ipv6 hostname uuid uri uri-reference uri-template
    json-pointer relative-json-pointer""".split()
)
_ASSERTIONS = frozenset(_WHOLE) | {"type"} | _NEVER.union(*_BY_TYPE.values())
_IMPLYING = {
    "object": frozenset("properties additionalProperties patternProperties".split()),
    "array": frozenset("items prefixItems".split()),
}
"""Keywords that make a node without a type one of this type."""

_BESIDE_PATTERNS = frozenset("properties minProperties maxProperties".split())
_BESIDE_NAMES = _BESIDE_PATTERNS | frozenset(
    "patternProperties additionalProperties unevaluatedProperties".split()
)

_SINGLE = frozenset(("items", "additionalProperties"))
_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions"))
"""Keywords whose value is a schema, a list of schemas, and schemas by name."""


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All schemas within a valid one, each by its path, the outer ones first."""
    if isinstance(schema, dict):
        yield path, schema
        for step, child in children(schema):
            yield from nodes(child, f"{path}/{step}")


def children(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The schemas directly within a valid one, each by its step, such as `properties/a`."""
    for key, value in node.items():
        if key in _SINGLE:
            yield key, value
        elif key == "propertyNames" and isinstance(value, dict):
            yield key, {"type": "string"} | value
        elif key in _LISTS:
            for index, child in enumerate(value):
                yield f"{key}/{index}", child
        elif key in _MAPS:
            for name, child in value.items():
                yield f"{key}/{name[:40]}", child


def check_enforced(schema: Any, param: str) -> None:
    """Raise UnsupportedFeature naming the first part of a valid schema that is not enforced."""
    for path, node in nodes(schema):
        if (problem := _problem(node)) is not None:
            raise UnsupportedFeature(
                f"{param}: structured output cannot enforce {problem}, at {path or 'its root'}",
                param=param,
            )


def _problem(node: Mapping[str, Any]) -> str | None:
    asserted = node.keys() & _ASSERTIONS
    if node.get("uniqueItems") is False:
        asserted -= {"uniqueItems"}
    if never := asserted & _NEVER:
        return min(never)
    for whole in _WHOLE:
        if whole in node:
            return _beside_whole(node, whole, asserted - {whole})
    kinds = {"number" if name == "integer" else name for name in _types(node)}
    allowed = frozenset({"type"}).union(*(_BY_TYPE.get(kind, ()) for kind in kinds))
    if beyond := asserted - allowed:
        return f"{min(beyond)} without a type that it is about"
    return _in_string(node) or _in_object(node)


def _types(node: Any) -> set[str]:
    """The types that a node names, or implies by its keywords."""
    if not isinstance(node, dict):
        return set()
    if (named := node.get("type")) is not None:
        return set(named) if isinstance(named, list) else {named}
    return {kind for kind, keys in _IMPLYING.items() if node.keys() & keys}


def _beside_whole(node: Mapping[str, Any], whole: str, others: set[str]) -> str | None:
    """What keywords beside `whole` constrain that would be ignored; None if nothing."""
    if whole == "$ref" and not str(node["$ref"]).startswith("#"):
        return f"$ref to {quote(node['$ref'])}"
    if whole == "allOf" and len(node["allOf"]) != 1:
        return f"allOf of {len(node['allOf'])}"
    if "type" in others and _implies_type(node, whole):
        others = others - {"type"}
    return f"{min(others)} beside {whole}" if others else None


def _implies_type(node: Mapping[str, Any], whole: str) -> bool:
    """True if the node's `type` excludes nothing that its keyword `whole` allows."""
    if whole == "$ref":
        return False
    if whole in ("const", "enum"):
        values = node["enum"] if whole == "enum" else [node["const"]]
        return all(map(validator_for({"type": node["type"]}).is_valid, values))
    branches = [_types(branch) for branch in node[whole]]
    return all(each and each <= _types(node) for each in branches)


def _in_string(node: Mapping[str, Any]) -> str | None:
    if "format" in node and node["format"] not in _FORMATS:
        return f"format {quote(node['format'])}"
    lengths = node.keys() & {"minLength", "maxLength"}
    shape = [key for key in ("pattern", "format") if key in node]
    if lengths and shape:
        return f"{min(lengths)} beside {shape[0]}"
    return "format beside pattern" if len(shape) == 2 else None


def _in_object(node: Mapping[str, Any]) -> str | None:
    for name in node.get("required", ()):
        if name not in node.get("properties", {}):
            return f"required: {quote(name)} is not among the properties"
    patterns = node.get("patternProperties")
    if patterns is not None and (len(patterns) != 1 or node.keys() & _BESIDE_PATTERNS):
        return "patternProperties beside others"
    if "propertyNames" in node and node.keys() & _BESIDE_NAMES:
        return "propertyNames beside others"
    for key in ("unevaluatedProperties", "unevaluatedItems"):
        if isinstance(node.get(key), dict):
            return key
    return None


def count_alternatives(schema: Any) -> int:
    """Branches of `anyOf` and `oneOf`, types of lists, and objects or lists in `enum`.

    At each of them a grammar continues in several ways at once, which is what makes masks slow.
    """
    total = 0
    for _, node in nodes(schema):
        total += len(node.get("anyOf", ())) + len(node.get("oneOf", ()))
        if isinstance(types := node.get("type"), list):
            total += len(types)
        total += sum(isinstance(value, dict | list) for value in node.get("enum", ()))
    return total
