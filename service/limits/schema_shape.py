"""The shape of a JSON schema: its alternatives, equal ones merged, and what no text can complete.

These functions take a schema that its metaschema accepts.
"""

import json
from collections.abc import Callable, Iterator
from typing import Any

_ALTERNATIVES = ("anyOf", "oneOf")
_DATA = frozenset(("const", "enum", "default", "examples", "required"))
"""Keywords whose values are data, not schemas."""
_ANNOTATIONS = frozenset(
    ("title", "description", "examples", "default", "deprecated", "readOnly", "writeOnly")
)
_MAPS = frozenset(("properties", "patternProperties", "$defs", "definitions", "dependentSchemas"))


def count_alternatives(schema: Any) -> int:
    """Different branches of `anyOf` and `oneOf`, types of lists, and objects or lists in `enum`.

    At each of them a grammar goes several ways at once, so they are what masks cost most by.
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
    """The schema with one of each set of equal branches of `anyOf`; a copy where it differs."""
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
        elif key in _MAPS and isinstance(value, dict):
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
    """True if a text completes a schema, by what is known and without those above it."""
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
    """Equal for branches that allow the same, but for what they say about themselves."""
    if isinstance(branch, dict):
        branch = {key: value for key, value in branch.items() if key not in _ANNOTATIONS}
    return json.dumps(branch, sort_keys=True)
