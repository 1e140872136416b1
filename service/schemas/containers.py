"""Arrays and objects: combines all schemas that apply in one place into a schema or rules."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from service.schemas.parts import Part, Rewriting, Schema
from service.schemas.scalars import finite_values, texts_of

_MOST_UNIQUE = 6
"""Different items of an array without repetitions: there is a rule for each subset."""
_MOST_NAMES = 256


def array_node(rewriter: Rewriting, parts: Sequence[Part]) -> Schema:
    """The schema of arrays to which all parts apply."""
    least = max((int(part.node.get("minItems", 0)) for part in parts), default=0)
    mosts = [int(part.node["maxItems"]) for part in parts if "maxItems" in part.node]
    most = min(mosts) if mosts else None
    length = max(len(part.node.get("prefixItems", ())) for part in parts)
    first: list[Schema] = []
    for at in range(length):
        item = rewriter.convert(_items(parts, at))
        if item is False:
            most = at if most is None else min(most, at)
            break
        first.append(item)
    rest = rewriter.convert(_items(parts, length))
    if rest is False:
        most = length if most is None else min(most, length)
    if most is not None and most < least:
        return False
    _leave_contained(rewriter, parts)
    if any(part.node.get("uniqueItems") for part in parts) and most not in (0, 1):
        values = None if first else finite_values(rewriter.resolved(rest), _MOST_UNIQUE)
        if values is not None:
            most = len(values) if most is None else min(most, len(values))
            if most < least:
                return False
            make = partial(_unique_rules, values, least, most)
            return {"const": rewriter.add_rules(make, inside=False)}
        _leave(rewriter, parts, "uniqueItems")
    schema: dict[str, Any] = {"type": "array"}
    if first:
        schema["prefixItems"] = [{} if each is True else each for each in first[:most]]
    if most is None or most > len(first) or not first:
        schema["items"] = rest if most != 0 else True
    else:
        schema["items"] = False
    counts = {"minItems": least or None, "maxItems": most}
    return schema | {key: value for key, value in counts.items() if value is not None}


def _items(parts: Sequence[Part], at: int) -> Iterator[Part]:
    """The schemas of an array's item at an index."""
    evaluating = [
        part for part in parts if "items" in part.node or at < len(part.node.get("prefixItems", ()))
    ]
    for part in parts:
        if at < len(part.node.get("prefixItems", ())):
            yield part.below("prefixItems", at)
        elif "items" in part.node:
            yield part.below("items")
        elif "unevaluatedItems" in part.node and not any(map(part.holds, evaluating)):
            yield part.below("unevaluatedItems")


def _leave_contained(rewriter: Rewriting, parts: Sequence[Part]) -> None:
    for part in parts:
        if "contains" in part.node and part.node.get("minContains") != 0:
            rewriter.leave(part, "contains")
        elif "contains" in part.node and "maxContains" in part.node:
            rewriter.leave(part, "maxContains")


def _unique_rules(values: Sequence[Any], least: int, most: int, name: str) -> str:
    """Rules for arrays of different values; a rule for each set of those that came."""
    texts = list(texts_of(values))
    space = f"{name}_space"
    lines = [f'{name} ::= "[" {space} {name}_0 {space} "]"', f'{space} ::= "" | " " | "\\n"']
    for came in range(1 << len(texts)):
        count = came.bit_count()
        if count > most:
            continue
        ways = ['""'] if count >= least else []
        if count < most:
            comma = f'"," {space} ' if came else ""
            ways += [
                f"{comma}{text} {name}_{came | 1 << at}"
                for at, text in enumerate(texts)
                if not came >> at & 1
            ]
        lines.append(f"{name}_{came} ::= {' | '.join(ways)}")
    return "\n".join(lines)


class Members:
    """The members of an object to which all parts apply: their names, and a schema for each."""

    def __init__(self, rewriter: Rewriting, parts: Sequence[Part]) -> None:
        self._rewriter = rewriter
        self._parts = parts
        self.required = list(
            dict.fromkeys(name for part in parts for name in part.node.get("required", ()))
        )
        listed = [name for part in parts for name in part.node.get("properties", ())]
        self.names = list(dict.fromkeys([*listed, *self.required]))
        self.patterns = [
            (part, pattern) for part in parts for pattern in part.node.get("patternProperties", ())
        ]
        self.of_names = [
            part.below("propertyNames")
            for part in parts
            if "propertyNames" in part.node and part.node["propertyNames"] is not True
        ]

    def schema(self, name: str) -> Schema:
        """The schema of the member of this name."""
        if self.of_names and not self._rewriter.is_valid(name, self.of_names):
            return False
        return self._rewriter.convert(self._lookup(name))

    def _lookup(self, name: str) -> Iterator[Part]:
        named = [(part, list(self._named(part, name))) for part in self._parts]
        for part, found in named:
            yield from found
            if not found:
                yield from self._others(part, [other for other, known in named if known])

    def _named(self, part: Part, name: str) -> Iterator[Part]:
        """The schemas of a part for a member of this name."""
        if name in part.node.get("properties", {}):
            yield part.member(name)
        for owner, pattern in self.patterns:
            if owner is part and re.search(pattern, name):
                yield part.below("patternProperties", pattern)

    def _others(self, part: Part, naming: Iterable[Part] = ()) -> Iterator[Part]:
        """The schemas of a part for members that it does not name, though others may.

        Members that schemas within it name, or all others, are evaluated there.
        """
        if "additionalProperties" in part.node:
            yield part.below("additionalProperties")
        elif "unevaluatedProperties" in part.node:
            stated = [each for each in self._parts if "additionalProperties" in each.node]
            if not any(map(part.holds, (*naming, *stated))):
                yield part.below("unevaluatedProperties")

    @property
    def is_stated(self) -> bool:
        """True if a part constrains members that it does not list."""
        keys = ("additionalProperties", "unevaluatedProperties")
        return any(key in part.node for part in self._parts for key in keys)

    def others(self) -> Schema:
        """The schema of members that no part names."""
        return self._rewriter.convert([each for part in self._parts for each in self._others(part)])

    def by_pattern(self) -> Schema:
        """The schema of members whose names match the first pattern alone, or any name."""
        if not self.patterns:
            return self.others()
        part, pattern = self.patterns[0]
        found = [part.below("patternProperties", pattern)]
        found += [
            each for other in self._parts if other is not part for each in self._others(other)
        ]
        return self._rewriter.convert(found)


def object_node(rewriter: Rewriting, parts: Sequence[Part]) -> Schema:
    """The schema of objects to which all parts apply."""
    members = Members(rewriter, parts)
    keys = _keys(rewriter, members)
    if isinstance(keys, list):
        members.names = list(dict.fromkeys([*members.names, *keys]))
    found = {name: members.schema(name) for name in members.names}
    if any(found[name] is False for name in members.required):
        return False
    least = max((int(part.node.get("minProperties", 0)) for part in parts), default=0)
    mosts = [int(part.node["maxProperties"]) for part in parts if "maxProperties" in part.node]
    most = min(mosts) if mosts else None
    schema: dict[str, Any] = {"type": "object"}
    if isinstance(keys, str) and not members.names:
        by_pattern = members.by_pattern()
        if by_pattern is not False:
            _leave(rewriter, parts, "minProperties", "maxProperties")
            return schema | {"patternProperties": {keys: by_pattern}, "additionalProperties": False}
    allowed = {name: each for name, each in found.items() if each is not False}
    if allowed:
        schema["properties"] = allowed
    if members.required:
        schema["required"] = members.required
    if keys is not None or len(allowed) < len(found):
        schema["additionalProperties"] = False
    elif members.is_stated or least > len(allowed):
        schema["additionalProperties"] = members.others()
    if schema.get("additionalProperties") is not False and least > len(members.required) + 1:
        # xgrammar lets a member that no schema names come twice, which counts once.
        _leave(rewriter, parts, "minProperties")
        least = 0
    return _counted(schema, least, most)


def _keys(rewriter: Rewriting, members: Members) -> list[str] | str | None:
    """All names that are offered beside listed ones, a pattern of them, or None for any.

    Of several patterns, names are offered that match the first and no other.
    """
    if not members.of_names and not members.patterns:
        return None
    asked: list[dict[str, Any]] = [{"type": "string"}]
    if members.patterns:
        first, *others = (pattern for _, pattern in members.patterns)
        asked += [{"pattern": first}, *({"not": {"pattern": each}} for each in others)]
    origin = members.of_names[0] if members.of_names else members.patterns[0][0]
    made = [
        origin._replace(path=f"{origin.path}~~key{at}", node=node, own=False)
        for at, node in enumerate(asked)
    ]
    found = rewriter.resolved(rewriter.convert([*members.of_names, *made]))
    if found == {"type": "string"}:
        return None
    values = [] if isinstance(found, bool) else finite_values(found, _MOST_NAMES)
    if values is not None:
        return values
    assert isinstance(found, dict)
    if "const" not in found:
        rewriter.leave(origin, "propertyNames" if members.of_names else "patternProperties")
    return found.get("const")


def _counted(schema: dict[str, Any], least: int, most: int | None) -> Schema:
    """The schema with the counts of members, as far as they do not follow from it."""
    required = len(schema.get("required", ()))
    possible = len(schema.get("properties", ()))
    closed = schema.get("additionalProperties") is False
    if (most is not None and max(required, least) > most) or (closed and possible < least):
        return False
    if least > required:
        schema["minProperties"] = least
    if most is not None and not (closed and possible <= most):
        schema["maxProperties"] = most
    return schema


def _leave(rewriter: Rewriting, parts: Sequence[Part], *keywords: str) -> None:
    for part in parts:
        for keyword in keywords:
            if part.node.get(keyword):
                rewriter.leave(part, keyword)
