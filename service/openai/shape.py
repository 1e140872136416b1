"""The keys that a model reads at every level, and the cleaning of bodies by them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NotRequired,
    Required,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from pydantic import BaseModel
from typing_extensions import is_typeddict

from service.errors import UnsupportedFeature
from service.quoting import nearest, quote, quote_name

_MOST_NAMED = 256
"""Places of unknown keys that are told; a body may have 40,000."""

Shape = Mapping[str, "Shape | Kinds | None"]
"""The keys of an object, or of each object in a list; the shape of a key's value, None for any."""


@dataclass(frozen=True, slots=True)
class Only:
    """Annotates a union of objects that their `type` tells apart: why no other type is served.

    `usual` is the type of an object that names none.
    """

    reason: str
    usual: str | None = None


@dataclass(frozen=True, slots=True)
class Kinds:
    """Shapes of objects by their `type`."""

    shapes: Mapping[str, Shape]
    only: Only

    def of(self, value: Mapping[str, Any], where: str) -> Shape:
        """The shape of an object; raises UnsupportedFeature for a type that is not served."""
        kind = value.get("type")
        kind = self.only.usual if kind is None else kind
        if not isinstance(kind, str) or kind not in self.shapes:
            name, known = f"{where}.type", " or ".join(self.shapes)
            message = f"{name}: must be {known}, got {quote(kind)}; {self.only.reason}"
            raise UnsupportedFeature(message, param=name)
        return self.shapes[kind]


@cache
def shape_of(model: type) -> Shape:
    """The keys of a pydantic model or of a TypedDict."""
    hints = get_type_hints(model, include_extras=True)
    names = model.model_fields if issubclass(model, BaseModel) else hints
    return {name: _within(hints[name]) for name in names}


def _within(hint: Any) -> Shape | Kinds | None:
    """The shape of the objects that a value of this type is or lists."""
    if is_typeddict(hint) or (isinstance(hint, type) and issubclass(hint, BaseModel)):
        return shape_of(hint)
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        only = next((each for each in inner[1:] if isinstance(each, Only)), None)
        return _within(inner[0]) if only is None else _kinds(inner[0], only)
    if origin in (list, Required, NotRequired, Union, UnionType):
        return next((shape for each in inner if (shape := _within(each))), None)
    return None


def _kinds(union: Any, only: Only) -> Kinds:
    members = get_args(union) if get_origin(union) in (Union, UnionType) else (union,)
    return Kinds({kind: shape_of(each) for each in members for kind in _types(each)}, only)


def _types(member: type) -> list[str]:
    """The literals that the `type` of an object may be."""
    found = [get_type_hints(member)["type"]]
    while get_origin(found[0]) is not Literal:
        found = [each for one in found for each in get_args(one)]
    return [literal for each in found for literal in get_args(each)]


class Cleaning:
    """Leaves out what asks for nothing: nulls, hints, and unknown keys or, with `refuse`, none."""

    def __init__(self, hints: frozenset[str], *, refuse: bool) -> None:
        self._hints = hints
        self._refuse = refuse
        self._unknown: set[str] = set()

    @property
    def ignored(self) -> tuple[str, ...]:
        """The places of unknown keys, such as `messages[].x`."""
        return tuple(sorted(self._unknown))

    def clean(self, value: Any, shape: Shape | Kinds | None, where: str = "") -> Any:
        """The value with the keys of its shape; raises UnsupportedFeature for an unknown one."""
        if shape is None:
            return value
        if isinstance(value, list):
            return [self.clean(each, shape, f"{where}[{n}]") for n, each in enumerate(value)]
        if not isinstance(value, dict):
            return value
        keys = shape.of(value, where) if isinstance(shape, Kinds) else shape
        cleaned = {}
        for key, entry in value.items():
            if entry is None or (key in self._hints and key not in keys):
                continue
            if key in keys:
                cleaned[key] = self.clean(entry, keys[key], f"{where}.{key}" if where else key)
            else:
                self._meet(key, keys, where)
        return cleaned

    def _meet(self, key: str, known: Shape, where: str) -> None:
        name = quote_name(key)
        place = f"{where}.{name}" if where else name
        if self._refuse:
            message = f"{place}: not a field of this route{nearest(key, known)}"
            raise UnsupportedFeature(message, param=place)
        if len(self._unknown) < _MOST_NAMED:
            self._unknown.add(re.sub(r"\[\d+\]", "[]", place))
