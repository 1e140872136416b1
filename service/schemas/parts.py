"""The schemas that apply together in one place of a schema."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

Schema = dict[str, Any] | bool
"""A schema as the compiler reads it: True allows everything, False nothing."""

WITHOUT_EFFECT = frozenset(
    """title description default examples deprecated readOnly writeOnly $comment $schema $id
    $anchor $defs definitions contentEncoding contentMediaType contentSchema discriminator then
    else minContains maxContains""".split()
)
_KIND_OF = {
    **dict.fromkeys(("minLength", "maxLength", "pattern", "format"), "string"),
    **dict.fromkeys(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"), "number"
    ),
    **dict.fromkeys(
        (
            *("items", "prefixItems", "minItems", "maxItems", "uniqueItems", "contains"),
            "unevaluatedItems",
        ),
        "array",
    ),
    **dict.fromkeys(
        (
            *("properties", "required", "additionalProperties", "patternProperties"),
            *("propertyNames", "minProperties", "maxProperties", "unevaluatedProperties"),
        ),
        "object",
    ),
}
"""The type that a keyword is about; a node that states no type is read as of these."""
TYPES = ("null", "boolean", "number", "string", "array", "object")


class TooLarge(Exception):
    """A schema whose branches and conditions multiply beyond what is compiled."""


class Part(NamedTuple):
    """A schema that applies in a place: part of the caller's schema, by its path, or generated."""

    path: str
    node: Any
    own: bool = True

    def below(self, *steps: str | int) -> "Part":
        """The subschema at these steps below this one."""
        node, path = self.node, self.path
        for step in steps:
            node = node[step]
            path += "/" + str(step).replace("~", "~0").replace("/", "~1")  # RFC 6901
        return Part(path, node, self.own)

    def holds(self, other: "Part") -> bool:
        """True if the other schema is this one or a subschema of it, in the caller's schema."""
        return other.own and f"{other.path}/".startswith(f"{self.path}/")

    def member(self, name: str) -> "Part":
        """The schema of a member that is listed in `properties`."""
        return self.below("properties", name)


class Rewriting(Protocol):
    """The rewriting of a whole schema, as the functions for keywords and types use it."""

    def convert(self, parts: Iterable[Part]) -> Schema:
        """Combine all parts into one schema."""

    def flat(self, parts: Iterable[Part]) -> list[Part] | None:
        """All parts without empty ones, references resolved; None if a part allows nothing."""

    def resolved(self, schema: Schema) -> Schema:
        """A converted schema, or the one that it refers to."""

    def is_valid(self, value: Any, parts: Iterable[Part]) -> bool:
        """True if a value is valid by all parts, formats included."""

    def leave(self, part: Part, keyword: str) -> None:
        """Note a keyword that the grammar does not enforce."""

    def add_rules(self, rules: Callable[[str], str], *, inside: bool) -> str:
        """Add grammar rules, made by a function of their name; returns their placeholder."""


def listed(parts: Iterable[Part]) -> Sequence[Any] | None:
    """The shortest list of values by `const` or `enum` of the parts."""
    lists = [part.node["enum"] for part in parts if "enum" in part.node]
    lists += [[part.node["const"]] for part in parts if "const" in part.node]
    return min(lists, key=len) if lists else None


def types_of(parts: Iterable[Part]) -> set[str] | None:
    """The types that all parts allow; None for all."""
    found: set[str] | None = None
    for part in parts:
        if (named := part.node.get("type")) is None:
            continue
        types = {named} if isinstance(named, str) else set(named)
        types |= {"integer"} if "number" in types else set()
        found = types if found is None else found & types
    if found is None:
        about = {_KIND_OF[key] for part in parts for key in part.node if key in _KIND_OF}
        return about or ({*TYPES} if any("not" in part.node for part in parts) else None)
    return found


def text_of(value: Any) -> str:
    """A key that is equal for equal values; 1 and 1.0 are equal, 1 and true are not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)
