"""JSON schemas: whether the grammar compiler enforces them, their alternatives and dead ends.

The compiler ignores what it does not enforce. Found by experiments with xgrammar 0.2
(tests/engine/test_enforced.py compares it with a validator):
a node is read as one of `$ref`, `const`, `enum`, `allOf` of one, `anyOf`, `oneOf`, or by its type,
in this order, and keywords beside the first of these are ignored. Annotations may be anywhere.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from service.common.error_messages import quote
from service.errors import UnsupportedFeature

_BY_TYPE: Mapping[str, frozenset[str]] = {
    "string": frozenset("minLength maxLength pattern format".split()),
    "number": frozenset("minimum maximum exclusiveMinimum exclusiveMaximum".split()),
    "array": frozenset("items prefixItems minItems maxItems unevaluatedItems".split()),
    "object": frozenset(
        """properties required additionalProperties patternProperties propertyNames minProperties
        maxProperties unevaluatedProperties""".split()
    ),
}
_NEVER = frozenset(
    """multipleOf uniqueItems contains minContains maxContains not if then else additionalItems
    dependentRequired dependentSchemas dependencies $dynamicRef $recursiveRef""".split()
)
_FORMATS = frozenset(
    """email date time date-time duration ipv4 ipv6 hostname uuid uri uri-reference uri-template
    json-pointer relative-json-pointer""".split()
)
_WHOLE = ("$ref", "const", "enum", "allOf", "anyOf", "oneOf")
_ASSERTIONS = frozenset(_WHOLE) | {"type"} | _NEVER.union(*_BY_TYPE.values())
_MEANT = {
    "object": frozenset("properties additionalProperties patternProperties".split()),
    "array": frozenset("items prefixItems".split()),
}
"""Keywords that make a node without a type one of this type."""

_BESIDE_PATTERNS = frozenset("properties minProperties maxProperties".split())
_BESIDE_NAMES = _BESIDE_PATTERNS | frozenset(
    "patternProperties additionalProperties unevaluatedProperties".split()
)
_BRANCHES = ("allOf", "anyOf", "oneOf", "prefixItems")
_CHILDREN = ("items", "additionalProperties")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")


def check_enforced(schema: Any, param: str) -> None:
    """Raise UnsupportedFeature naming the first part of a schema that would not be enforced.

    The schema is valid by its metaschema.
    """
    nodes = [("", schema)]
    while nodes:
        where, node = nodes.pop()
        if not isinstance(node, dict):
            continue
        if (problem := _problem(node)) is not None:
            raise UnsupportedFeature(
                f"{param}: structured output cannot enforce {problem}, at {where or 'its root'}",
                param=param,
            )
        nodes.extend((f"{where}/{step}", child) for step, child in _children(node))


def _children(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key in _CHILDREN:
        if key in node:
            yield key, node[key]
    if isinstance(names := node.get("propertyNames"), dict):
        yield "propertyNames", {"type": "string"} | names
    for key in _BRANCHES:
        for index, child in enumerate(node.get(key, ())):
            yield f"{key}/{index}", child
    for key in _MAPS:
        if isinstance(children := node.get(key), dict):
            for name, child in children.items():
                yield f"{key}/{name[:40]}", child


def _problem(node: Mapping[str, Any]) -> str | None:
    asserted = node.keys() & _ASSERTIONS
    if node.get("uniqueItems") is False:
        asserted -= {"uniqueItems"}
    if never := asserted & _NEVER:
        return f"{min(never)}"
    whole = next((key for key in _WHOLE if key in node), None)
    if whole is not None:
        return _beside(node, whole, asserted - {whole})
    types = _types(node)
    kinds = {"number" if name == "integer" else name for name in types}
    allowed = frozenset({"type"}).union(*(_BY_TYPE.get(kind, ()) for kind in kinds))
    if beyond := asserted - allowed:
        return f"{min(beyond)} without a type that it is about"
    return _string(node) or _object(node)


def _types(node: Mapping[str, Any]) -> set[str]:
    """The types that a node names, or implies by its keywords."""
    named = node.get("type")
    if named is not None:
        return set(named) if isinstance(named, list) else {named}
    return {kind for kind, keys in _MEANT.items() if node.keys() & keys}


def _beside(node: Mapping[str, Any], whole: str, others: set[str] | frozenset[str]) -> str | None:
    """What keywords beside `whole` constrain that would be ignored; None if nothing."""
    if whole == "$ref" and not str(node["$ref"]).startswith("#"):
        return f"$ref to {quote(node['$ref'])}"
    if whole == "allOf" and len(node["allOf"]) != 1:
        return f"allOf of {len(node['allOf'])}"
    if "type" in others and _implied(node, whole):
        others = others - {"type"}
    return f"{min(others)} beside {whole}" if others else None


def _implied(node: Mapping[str, Any], whole: str) -> bool:
    """True if the node's `type` excludes nothing that its keyword `whole` allows."""
    types = _types({"type": node["type"]})
    if whole in ("anyOf", "oneOf", "allOf"):
        branches = [_types(branch) if isinstance(branch, dict) else set() for branch in node[whole]]
        return all(each and each <= types for each in branches)
    if whole == "$ref":
        return False
    values = node["enum"] if whole == "enum" else [node["const"]]
    return all(_type_of(value) & types for value in values)


def _type_of(value: Any) -> set[str]:
    match value:
        case bool():
            return {"boolean"}
        case int():
            return {"integer", "number"}
        case float():
            return {"number"}
        case str():
            return {"string"}
        case list():
            return {"array"}
        case dict():
            return {"object"}
    return {"null"}


def _string(node: Mapping[str, Any]) -> str | None:
    if "format" in node and node["format"] not in _FORMATS:
        return f"format {quote(node['format'])}"
    lengths = node.keys() & {"minLength", "maxLength"}
    shape = [key for key in ("pattern", "format") if key in node]
    if lengths and shape:
        return f"{min(lengths)} beside {shape[0]}"
    return "format beside pattern" if len(shape) == 2 else None


def _object(node: Mapping[str, Any]) -> str | None:
    properties = node.get("properties", {})
    for name in node.get("required", ()):
        if name not in properties:
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


_ALTERNATIVES = ("anyOf", "oneOf")
_DATA = frozenset(("const", "enum", "default", "examples", "required"))
"""Keywords whose values are data, not schemas."""
_ANNOTATIONS = frozenset(
    ("title", "description", "examples", "default", "deprecated", "readOnly", "writeOnly")
)
_NAMED_SCHEMAS = frozenset(
    ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")
)


def count_alternatives(schema: Any) -> int:
    """Different branches of `anyOf` and `oneOf`, types of lists, and objects or lists in `enum`.

    At each of them a grammar continues in several ways at once, which is what makes masks slow.
    """
    total = 0
    for _, node in nodes(schema):
        for key in _ALTERNATIVES:
            if isinstance(branches := node.get(key), list):
                total += len({_canonical(each) for each in branches})
        if isinstance(types := node.get("type"), list):
            total += len(types)
        if isinstance(values := node.get("enum"), list):
            total += sum(isinstance(each, dict | list) for each in values)
    return total


def with_equal_merged(schema: Any) -> Any:
    """The schema without repeated equal branches of `anyOf`; a copy where it differs."""
    if isinstance(schema, list):
        return [with_equal_merged(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    merged = {
        key: value if key in _DATA else with_equal_merged(value) for key, value in schema.items()
    }
    if isinstance(branches := merged.get("anyOf"), list):
        different: dict[str, Any] = {}
        for each in branches:
            different.setdefault(_canonical(each), each)
        merged["anyOf"] = list(different.values())
    return merged


def impossible_part(schema: Any) -> str | None:
    """The path of a part that no finite text completes, None if there is none.

    Such a part leads only to itself: by `$ref`, or because it requires a member or an item that
    does. A part that need not come, as an optional member or one of several branches, counts too.
    """
    possible: set[int] = set()
    parts = list(nodes(schema))
    grown = -1
    while grown != len(possible):
        grown = len(possible)
        for _, node in reversed(parts):
            _possible(schema, node, possible, set())
    return next((path or "/" for path, node in parts if id(node) not in possible), None)


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All schemas within one, each by its path, the outer ones first."""
    if not isinstance(schema, dict):
        return
    yield path, schema
    for key, value in schema.items():
        if key in _DATA:
            continue
        if isinstance(value, list):
            for index, each in enumerate(value):
                yield from nodes(each, f"{path}/{key}/{index}")
        elif key in _NAMED_SCHEMAS and isinstance(value, dict):
            for name, each in value.items():
                yield from nodes(each, f"{path}/{key}/{name}")
        else:
            yield from nodes(value, f"{path}/{key}")


def resolve(root: Any, reference: Any) -> Any:
    """The schema that a `$ref` within the document names; None for no such place."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        return None
    found = root
    for step in filter(None, reference[1:].split("/")):
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
        else:
            return None
    return found


def _possible(root: Any, node: Any, known: set[int], above: set[int]) -> bool:
    """True if a finite text completes a schema, without passing through the schemas `above` it.

    `known` are the ids of schemas that can be completed; those found are added.
    """
    if node is False:
        return False
    if not isinstance(node, dict) or id(node) in known:
        return True
    if id(node) in above:
        return False
    below = above | {id(node)}

    def possible(part: Any) -> bool:
        return _possible(root, part, known, below)

    if _completes(root, node, possible):
        known.add(id(node))
        return True
    return False


def _completes(root: Any, node: dict[str, Any], possible: Callable[[Any], bool]) -> bool:
    if "$ref" in node:
        target = resolve(root, node["$ref"])
        return target is None or possible(target)
    if "const" in node or "enum" in node:
        return True
    if isinstance(every := node.get("allOf"), list) and not all(map(possible, every)):
        return False
    for key in _ALTERNATIVES:
        if isinstance(branches := node.get(key), list):
            return any(map(possible, branches))
    types = node.get("type", "object" if "properties" in node else "array")
    if types == "object":
        properties = node.get("properties", {})
        return all(possible(properties.get(name, True)) for name in node.get("required", ()))
    if types == "array" and node.get("minItems", 0) > 0:
        first, rest = node.get("prefixItems", []), node.get("items", True)
        least = int(node["minItems"])
        return all(map(possible, first[:least])) and (least <= len(first) or possible(rest))
    return True


def _canonical(branch: Any) -> str:
    """A key that is equal for branches that allow the same, whatever their annotations."""
    if isinstance(branch, dict):
        branch = {key: value for key, value in branch.items() if key not in _ANNOTATIONS}
    return json.dumps(branch, sort_keys=True)
