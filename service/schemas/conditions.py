"""Keywords that choose between subschemas: `anyOf`, `oneOf`, and conditions such as `if`."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from service.schemas.parts import TYPES, WITHOUT_EFFECT, Part, Rewriting, TooLarge, listed, types_of

_ALTERNATIVES = ("anyOf", "oneOf")
CHOOSING = (*_ALTERNATIVES, "if", "not", "dependentRequired", "dependentSchemas")
"""Keywords by which what applies is one of several schemas."""


def branches_of(
    rewriter: Rewriting, part: Part, keyword: str, parts: list[Part]
) -> Iterator[Sequence[Part]]:
    """The cases that a keyword distinguishes, each with the schemas that apply in it."""
    value, types = part.node[keyword], types_of(parts)
    if keyword in _ALTERNATIVES:
        for at in range(len(value)):
            yield [part.below(keyword, at)]
    elif keyword.startswith("dependent") and types is not None and "object" not in types:
        yield []
    elif keyword == "dependentRequired":
        yield from _dependent(part, {name: {"required": names} for name, names in value.items()})
    elif keyword == "dependentSchemas":
        yield from _dependent(part, value)
    else:
        yield from _outcomes(rewriter, part, keyword, parts)


def _dependent(part: Part, schemas: Mapping[str, Any]) -> Iterator[Sequence[Part]]:
    """Every choice of which of these names come, each with its schema."""
    names = list(schemas)
    if len(names) > 5:
        raise TooLarge
    for choice in range(1 << len(names)):
        came = [name for at, name in enumerate(names) if choice >> at & 1]
        gone = {name: False for name in names if name not in came}
        path = f"{part.path}~~{choice}"
        yield [
            Part(path, {"type": "object", "required": came, "properties": gone}, False),
            *(
                Part(f"{path}{name}", schemas[name], False)
                if "dependentRequired" in part.node
                else part.below("dependentSchemas", name)
                for name in came
            ),
        ]


def _outcomes(
    rewriter: Rewriting, part: Part, keyword: str, parts: list[Part]
) -> Iterator[Sequence[Part]]:
    """What follows if a condition holds, and if not; as if it were not there, if unknown."""
    path, node = part.path, part.node
    test, types = _condition(rewriter, node[keyword]), types_of(parts)
    if keyword == "not":
        then = Part(f"{path}~~then", False, own=False)
        otherwise = Part(f"{path}~~else", True, own=False)
    else:
        then = Part(f"{path}/then", node.get("then", True), part.own)
        otherwise = Part(f"{path}/else", node.get("else", True), part.own)
    if test is None:
        if keyword == "if":
            if then.node is not True or otherwise.node is not True:
                rewriter.leave(part, keyword)
            yield []
            return
        yield from _negated(rewriter, part, parts)
        return
    if types is not None and "object" not in types:
        # A condition about members holds for what has none, unless it asks for an object.
        yield [otherwise if "type" in node[keyword] else then]
        return
    values, required = test
    members = {name: {"enum": each} for name, each in values.items()}
    holds = {"type": "object", "properties": members}
    yield [Part(f"{path}~~{keyword}", holds | {"required": required}, False), then]
    for name, each in values.items():
        differs = {
            "type": "object",
            "properties": {name: {"not": {"enum": each}}},
            "required": [name],
        }
        yield [Part(f"{path}~~{keyword}~{name}", differs, False), otherwise]
        if name in required:
            without = {"type": "object", "properties": {name: False}}
            yield [Part(f"{path}~~{keyword}~{name}~", without, False), otherwise]


def _negated(rewriter: Rewriting, part: Part, parts: list[Part]) -> Iterator[Sequence[Part]]:
    """The branches without what `not` names, if that is one of a few kinds."""
    path, inner = part.path, part.node["not"]
    said = set() if isinstance(inner, bool) else inner.keys() - WITHOUT_EFFECT
    if inner is True or (inner is not False and not said):
        return
    if inner is False:
        yield []
    elif said == {"type"}:
        named = inner["type"]
        named = {named} if isinstance(named, str) else set(named)
        if "integer" in named and "number" not in named:
            rewriter.leave(part, "not")
        yield [Part(f"{path}~~type", {"type": [t for t in TYPES if t not in named]}, False)]
    elif said == {"required"} and len(inner["required"]) == 1:
        without = {"type": "object", "properties": {inner["required"][0]: False}}
        yield [Part(f"{path}~~required", without, False)]
    elif said <= {"const", "enum", "type", "pattern"} and _without(inner, parts):
        yield []
    else:
        rewriter.leave(part, "not")
        yield []


def _without(inner: Any, parts: list[Part]) -> bool:
    """True if the functions for each type leave out what `not` names."""
    types = types_of(parts) or {*TYPES}
    if inner.get("type") == "string":
        return True
    if "pattern" in inner:
        return types == {"string"}
    values = listed([Part("", inner)]) or ()
    return "type" not in inner and not (
        types & {"array", "object"} and any(isinstance(each, list | dict) for each in values)
    )


def _condition(rewriter: Rewriting, test: Any) -> tuple[dict[str, list[Any]], list[str]] | None:
    """The values of members that a schema asks for, and the required ones, if that is all."""
    if not isinstance(test, dict):
        return None
    said = test.keys() - WITHOUT_EFFECT
    names = list(test.get("properties", ()))
    required = list(test.get("required", ()))
    if not said <= {"properties", "required", "type"} or not 0 < len(names) <= 3:
        return None
    if test.get("type", "object") != "object" or not set(required) <= set(names):
        return None
    values = {}
    for name, member in test["properties"].items():
        if not isinstance(member, dict) or not member.keys() - WITHOUT_EFFECT <= {
            "const",
            "enum",
            "type",
        }:
            return None
        found, whole = listed([Part("", member)]), [Part("", member, own=False)]
        if found is None:
            return None
        values[name] = [each for each in found if rewriter.is_valid(each, whole)]
    return values, required
