"""JSON schemas rewritten into what the grammar compiler enforces.

The compiler (xgrammar 0.2) reads a node as one of `$ref`, `enum`, `anyOf`, or by its one type, and
ignores other keywords beside these. So all schemas that apply in one place (`allOf`, `$ref`,
branches, conditions) are combined and written as such nodes.

What such a node cannot express, like a pattern together with a length, becomes grammar rules, with
a constant as their placeholder in the schema. Every text that the result allows is valid, except
for keywords listed as unenforced. Some valid texts are not allowed: in an object with listed
members, other names that a pattern allows, and some forms of numbers and formats.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote as percent_encoded
from urllib.parse import unquote

import jsonschema_rs

from service.schemas.conditions import CHOOSING, branches_of
from service.schemas.containers import array_node, object_node
from service.schemas.disjoint import all_disjoint
from service.schemas.parts import WITHOUT_EFFECT, Part, Schema, TooLarge, listed, types_of
from service.schemas.scalars import number_node, string_node

_MOST_NODES = 4096


class Unresolved(Exception):
    """A `$ref` that points to no place within the schema."""


@dataclass(frozen=True, slots=True)
class Unenforced:
    """A keyword that the grammar does not enforce, and the path of its schema."""

    path: str
    keyword: str

    def __str__(self) -> str:
        return f"{self.keyword}, at {self.path or 'its root'}"


@dataclass(frozen=True, slots=True)
class Rule:
    """Grammar rules; the first is the start. `inside` if they match the inside of a string."""

    text: str
    inside: bool


@dataclass(frozen=True, slots=True)
class Rewritten:
    """The schema for the compiler, rules by their placeholders, and unenforced keywords."""

    schema: Schema
    rules: Mapping[str, Rule]
    unenforced: Sequence[Unenforced]


def rewrite(schema: Any) -> Rewritten:
    """Rewrite a schema that is valid by its metaschema. Raises TooLarge and Unresolved."""
    try:
        return Rewriter(schema).whole()
    except RecursionError as error:  # of references that follow each other
        raise TooLarge from error


class Rewriter:
    """Rewrites one schema; the functions for each type call it for subschemas."""

    def __init__(self, root: Any) -> None:
        self._root = root
        self._rules: dict[str, Rule] = {}
        self._mark = next(
            mark for mark in (f"@{n}@" for n in range(1 << 20)) if mark not in json.dumps(root)
        )
        self._left: dict[Unenforced, None] = {}
        self._bodies: dict[str, Schema] = {}
        self._names: dict[Any, str] = {}
        self._open: set[Any] = set()
        self._nodes = 0
        _check_references(root)
        plain = (
            {key: value for key, value in root.items() if key not in ("$id", "$schema")}
            if isinstance(root, dict)
            else root
        )
        self._registry = jsonschema_rs.Registry([("urn:schema", plain)])

    def whole(self) -> Rewritten:
        """The whole schema."""
        body = self.convert([Part("", self._root)])
        if isinstance(body, dict) and self._bodies:
            body = body | {"$defs": self._bodies}
        return Rewritten(body, self._rules, tuple(self._left))

    def leave(self, part: Part, keyword: str) -> None:
        """Note a keyword that the grammar does not enforce."""
        self._left[Unenforced(part.path.partition("~~")[0], keyword)] = None

    def add_rules(self, rules: Callable[[str], str], *, inside: bool) -> str:
        """Add grammar rules, made by a function of their name; returns their placeholder."""
        mark = f"{self._mark}{len(self._rules)}@"
        self._rules[mark] = Rule(rules(f"own{len(self._rules)}"), inside)
        return mark

    def resolved(self, schema: Schema) -> Schema:
        """A converted schema, or the one that it refers to."""
        while isinstance(schema, dict) and "$ref" in schema:
            schema = self._bodies.get(schema["$ref"].rpartition("/")[2], True)
        return schema

    def is_valid(self, value: Any, parts: Iterable[Part]) -> bool:
        """True if a value is valid by all parts, formats included."""
        every = [
            {"$ref": f"urn:schema#{percent_encoded(part.path)}"} if part.own else part.node
            for part in parts
        ]
        validator = jsonschema_rs.Draft202012Validator(
            {"allOf": every}, registry=self._registry, validate_formats=True
        )
        return validator.is_valid(value)

    def convert(
        self, parts: Iterable[Part], used: frozenset[tuple[str, str]] = frozenset()
    ) -> Schema:
        """Combine all parts into one schema, without the keywords in `used`, each by its path."""
        live = self._live(parts, used)
        if live is None:
            return False
        if not live:
            return True
        if len(live) == 1 and live[0].node.keys() - WITHOUT_EFFECT == {"$ref"}:
            return self._reference(live[0])
        paths = frozenset(part.path for part in live)
        key = (paths, frozenset(each for each in used if each[0] in paths))
        if key in self._open:
            name = self._names.setdefault(key, f"d{len(self._names)}")
            return {"$ref": f"#/$defs/{name}"}
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise TooLarge
        self._open.add(key)
        body = self._conjoin(live, used)
        self._open.remove(key)
        if key not in self._names:
            return body
        self._bodies[self._names[key]] = body
        return {"$ref": f"#/$defs/{self._names[key]}"}

    def _live(self, parts: Iterable[Part], used: frozenset[tuple[str, str]]) -> list[Part] | None:
        """Parts that say something, those of `allOf` among them; None if one allows nothing."""
        found: dict[str, Part] = {}
        todo = list(parts)
        while todo:
            part = todo.pop(0)
            if part.node is False:
                return None
            if part.node is True or part.path in found:
                continue
            for at in range(len(part.node.get("allOf", ()))):
                todo.append(part.below("allOf", at))
            said = part.node.keys() - WITHOUT_EFFECT - {"allOf"}
            if any(word == "not" or (part.path, word) not in used for word in said):
                found[part.path] = part
        return list(found.values())

    def _reference(self, part: Part) -> Schema:
        target = self._target(part)
        key = target.path
        if key not in self._names:
            name = self._names[key] = f"d{len(self._names)}"
            self._bodies[name] = self.convert([target])
        name = self._names[key]
        return False if self._bodies.get(name) is False else {"$ref": f"#/$defs/{name}"}

    def _target(self, part: Part) -> Part:
        reference = part.node["$ref"]
        target = _resolve(self._root, reference)
        if target is None:
            raise Unresolved(f"$ref to {reference!r:.100}, at {part.path or 'its root'}")
        return Part(unquote(reference[1:]), target)

    def flat(
        self, parts: Iterable[Part], used: frozenset[tuple[str, str]] = frozenset()
    ) -> list[Part] | None:
        """All parts without empty ones, references resolved; None if a part allows nothing."""
        live = self._live(parts, used)
        if live is None:
            return None
        found = {part.path: part for part in live}
        todo = list(live)
        while todo:
            part = todo.pop()
            if "$ref" in part.node:
                more = self._live([self._target(part)], used)
                if more is None:
                    return None
                todo += [each for each in more if each.path not in found]
                found |= {each.path: each for each in more}
        return list(found.values())

    def _conjoin(self, live: list[Part], used: frozenset[tuple[str, str]]) -> Schema:
        parts = self.flat(live, used)
        if parts is None:
            return False
        if (values := listed(parts)) is not None:
            return self._enumerated(values, parts)
        for part in parts:
            for keyword in CHOOSING:
                if keyword in part.node and (part.path, keyword) not in used:
                    return self._branched(part, keyword, parts, used | {(part.path, keyword)})
        return self._typed(parts)

    def _enumerated(self, values: Iterable[Any], parts: list[Part]) -> Schema:
        found = [each for each in values if self.is_valid(each, parts)]
        return {"enum": found} if found else False

    def _branched(
        self, part: Part, keyword: str, parts: list[Part], used: frozenset[tuple[str, str]]
    ) -> Schema:
        """The parts as alternatives: one for each branch of a keyword, or each outcome."""
        branches = list(branches_of(self, part, keyword, parts))
        converted = [self.convert([*parts, *branch], used) for branch in branches]
        found: list[Schema] = [each for each in converted if each is not False]
        if keyword == "oneOf" and not all_disjoint(self, [[*parts, *each] for each in branches]):
            self.leave(part, keyword)
        found = [each for at, each in enumerate(found) if each not in found[:at]]
        if not found:
            return False
        return found[0] if len(found) == 1 else {"anyOf": found}

    def _typed(self, parts: list[Part]) -> Schema:
        types = types_of(parts)
        if types is None:
            return True
        found: list[Schema] = []
        for kind in ("string", "number", "integer", "boolean", "null", "array", "object"):
            if kind in types and (kind != "integer" or "number" not in types):
                schema = self._of_kind(kind, parts)
                if schema is not False:
                    found.append(schema)
        if not found:
            return False
        return found[0] if len(found) == 1 else {"anyOf": found}

    def _of_kind(self, kind: str, parts: list[Part]) -> Schema:
        match kind:
            case "string":
                return string_node(self, parts)
            case "number" | "integer":
                return number_node(self, parts, kind)
            case "array":
                return array_node(self, parts)
            case "object":
                return object_node(self, parts)
        values = (True, False) if kind == "boolean" else (None,)
        if any("not" in part.node for part in parts):
            return self._enumerated(values, parts)
        return {"type": kind}


def _check_references(node: Any, path: str = "") -> None:
    """Raise Unresolved for a reference out of the schema, which nothing may follow."""
    if isinstance(node, dict):
        reference, dynamic = node.get("$ref"), node.get("$dynamicRef")
        if isinstance(dynamic, str):
            raise Unresolved(f"$dynamicRef, at {path or 'its root'}")
        if isinstance(reference, str) and not reference.startswith("#"):
            raise Unresolved(f"$ref to {reference!r:.100}, at {path or 'its root'}")
        for key, value in node.items():
            if key not in ("const", "enum", "default", "examples"):
                _check_references(value, f"{path}/{key}")
    elif isinstance(node, list):
        for at, value in enumerate(node):
            _check_references(value, f"{path}/{at}")


def _resolve(root: Any, reference: str) -> Any:
    """The schema that a `$ref` within the document names; None for no such place."""
    found = root
    if not reference.startswith("#/") and reference != "#":
        return None
    for step in unquote(reference[1:]).split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and key.isdecimal() and int(key) < len(found):
            found = found[int(key)]
        elif isinstance(found, dict) and key in found:
            found = found[key]
        else:
            return None
    return found
