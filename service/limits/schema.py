"""JSON schemas: their subschemas, and the number of their alternatives."""

from collections.abc import Iterator, Mapping
from typing import Any

_SINGLE = frozenset(
    """items additionalProperties propertyNames contains not if then else unevaluatedItems
    unevaluatedProperties""".split()
)
_LISTS = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_MAPS = frozenset(("properties", "patternProperties", "dependentSchemas", "$defs", "definitions"))
"""Keywords whose value is a schema, a list of schemas, and schemas by name."""


def nodes(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """All subschemas of a valid schema, each by its path, the outer ones first."""
    if isinstance(schema, dict):
        yield path, schema
        for step, child in children(schema):
            yield from nodes(child, f"{path}/{step}")


def children(node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The direct subschemas of a valid schema, each by its step, such as `properties/a`."""
    for key, value in node.items():
        if key in _SINGLE:
            yield key, value
        elif key in _LISTS:
            for index, child in enumerate(value):
                yield f"{key}/{index}", child
        elif key in _MAPS:
            for name, child in value.items():
                yield f"{key}/{name[:40]}", child


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
