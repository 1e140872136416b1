"""Objects that a request model of vLLM's may hold, each alone in an otherwise empty body."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

UNKNOWN = "a_key_of_nobody"

Node = dict[str, Any]
Wrap = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class Place:
    """An object in a body: where it stands, the keys that its model names, and a body with it.

    `body` has the unknown key in the object, and nothing else but what tells kinds apart.
    """

    where: str
    keys: frozenset[str]
    body: Node


def places(model: type[BaseModel]) -> list[Place]:
    """The objects below the top of a model's bodies, of all kinds that its unions name."""
    schema = model.model_json_schema()
    return [place for place in _Walk(schema.get("$defs", {})).objects(schema) if place.where]


class _Walk:
    def __init__(self, defs: dict[str, Node]) -> None:
        self._defs = defs

    def objects(
        self,
        node: Node,
        where: str = "",
        wrap: Wrap = lambda held: held,
        above: tuple[str, ...] = (),
    ) -> Iterator[Place]:
        """The objects of a node; `above` are the definitions that it stands in."""
        if (name := node.get("$ref", "").rpartition("/")[2]) in above:
            return
        if name:
            yield from self.objects(self._defs[name], where, wrap, (*above, name))
        for key in ("anyOf", "oneOf", "allOf"):
            for branch in node.get(key, ()):
                yield from self.objects(branch, where, wrap, above)
        if isinstance(items := node.get("items"), dict):
            yield from self.objects(items, f"{where}[]", lambda held: wrap([held]), above)
        if node.get("type") == "object":
            yield from self._object(node, where, wrap, above)

    def _object(
        self, node: Node, where: str, wrap: Wrap, above: tuple[str, ...]
    ) -> Iterator[Place]:
        properties: dict[str, Node] = node.get("properties", {})
        for fixed in _kinds(properties):
            yield Place(where, frozenset(properties), wrap(fixed | {UNKNOWN: 1}))
            for key, child in properties.items():
                inner = f"{where}.{key}" if where else key
                yield from self.objects(child, inner, _held(wrap, fixed, key), above)


def _held(wrap: Wrap, fixed: Node, key: str) -> Wrap:
    return lambda value: wrap(fixed | {key: value})


def _kinds(properties: dict[str, Node]) -> list[Node]:
    """The fixed part of objects of each kind that a `type` tells apart."""
    kind = properties.get("type", {})
    named = kind.get("enum", [kind["const"]] if "const" in kind else [])
    return [{"type": each} for each in named] or [{}]
