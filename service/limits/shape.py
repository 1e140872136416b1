"""Shapes of JSON values: the keys that are read, at every level."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from service.errors import UnsupportedFeature
from service.quoting import quote, quote_name

Shape = Mapping[str, "Shape | Kinds | None"]
"""The keys of an object, or of each object in a list; the shape of a key's value, None for any."""


@dataclass(frozen=True, slots=True)
class Kinds:
    """Shapes of objects by their `type`, and the reason why no other type is served.

    `usual` is the type of an object that names none. Without shapes no object is served.
    """

    shapes: Mapping[str, Shape]
    reason: str
    usual: str | None = None

    def of(self, value: Mapping[str, Any], where: str = "") -> Shape:
        """The shape of an object; raises UnsupportedFeature for a type that is not served."""
        if not self.shapes:
            raise UnsupportedFeature(f"{where}: must be no object; {self.reason}", param=where)
        kind = value.get("type")
        kind = self.usual if kind is None else kind
        if not isinstance(kind, str) or kind not in self.shapes:
            name = f"{where}.type"
            known = " or ".join(self.shapes)
            message = f"{name}: must be {known}, got {quote(kind)}; {self.reason}"
            raise UnsupportedFeature(message, param=name)
        return self.shapes[kind]


def pruned(value: Any, shape: Shape | Kinds) -> Any:
    """The value with the keys of its shape only, at every level, and without nulls."""
    if isinstance(value, list):
        return [pruned(entry, shape) for entry in value]
    if not isinstance(value, dict):
        return value
    keys = shape.of(value) if isinstance(shape, Kinds) else shape
    return {
        key: entry if (inner := keys[key]) is None else pruned(entry, inner)
        for key, entry in value.items()
        if key in keys and entry is not None
    }


def unread(
    value: Any, shape: Shape | Kinds, hints: Container[str], where: str = ""
) -> Iterator[tuple[str, Shape]]:
    """The places of keys that a shape lacks, each with the keys that are read there.

    A key whose value is null asks for nothing: it is passed over, and so are hints. Raises
    UnsupportedFeature for an object of a type that is not served.
    """
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from unread(entry, shape, hints, f"{where}[{index}]")
    elif isinstance(value, dict):
        keys = shape.of(value, where) if isinstance(shape, Kinds) else shape
        for key, entry in value.items():
            if key not in keys:
                if entry is not None and key not in hints:
                    yield f"{where}.{quote_name(key)}" if where else quote_name(key), keys
            elif (inner := keys[key]) is not None:
                yield from unread(entry, inner, hints, f"{where}.{key}" if where else key)
