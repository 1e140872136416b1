"""Tells whether schemas have no value in common, so that their `oneOf` equals their `anyOf`.

The compiled form may allow less than the schemas do, so the original schemas are examined.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

from service.schemas.parts import TYPES, Part, Rewriting, listed, text_of

_DEPTH = 4


def all_disjoint(rewriter: Rewriting, branches: Sequence[Sequence[Part]]) -> bool:
    """True if certainly no value is allowed by two of the branches."""
    return all(_disjoint(rewriter, *pair, _DEPTH) for pair in combinations(branches, 2))


def _disjoint(rewriter: Rewriting, one: Sequence[Part], other: Sequence[Part], depth: int) -> bool:
    here, there = rewriter.flat(one), rewriter.flat(other)
    if here is None or there is None:
        return True
    values = [_values(parts) for parts in (here, there)]
    types = [_types(parts, listed) for parts, listed in zip((here, there), values, strict=True)]
    if not types[0] & types[1]:
        return True
    if values[0] is not None and values[1] is not None:
        return not values[0].keys() & values[1].keys()
    if types[0] != {"object"} and types[1] != {"object"}:
        return False
    return depth > 0 and _members_disjoint(rewriter, here, there, depth)


def _members_disjoint(
    rewriter: Rewriting, here: Sequence[Part], there: Sequence[Part], depth: int
) -> bool:
    """True if a member that one side requires excludes what the other side allows."""
    for mine, others in ((here, there), (there, here)):
        for name in (name for part in mine for name in part.node.get("required", ())):
            if any(_excludes(part.node, name) for part in others):
                return True
            one, other = _members(mine, name), _members(others, name)
            needed = any(name in part.node.get("required", ()) for part in others)
            if needed and one and other and _disjoint(rewriter, one, other, depth - 1):
                return True
    return False


def _excludes(node: dict[str, Any], name: str) -> bool:
    if node.get("properties", {}).get(name, True) is False:
        return True
    return (
        node.get("additionalProperties") is False
        and name not in node.get("properties", {})
        and not node.get("patternProperties")
    )


def _members(parts: Sequence[Part], name: str) -> list[Part]:
    return [part.member(name) for part in parts if name in part.node.get("properties", {})]


def _values(parts: Sequence[Part]) -> dict[str, Any] | None:
    """The listed values by their keys; None if none are listed."""
    values = listed(parts)
    return None if values is None else {text_of(each): each for each in values}


def _types(parts: Sequence[Part], values: dict[str, Any] | None) -> set[str]:
    found = set(TYPES) if values is None else {_type_of(each) for each in values.values()}
    for part in parts:
        if (named := part.node.get("type")) is not None:
            types = {named} if isinstance(named, str) else set(named)
            found &= {"number" if each == "integer" else each for each in types}
    return found


def _type_of(value: Any) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return "string"
        case list():
            return "array"
        case dict():
            return "object"
    return "null"
