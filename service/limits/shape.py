"""Shapes of JSON values: the keys that are read, at every level."""

from collections.abc import Container, Iterator, Mapping
from typing import Any

from service.quoting import quote_name

Shape = Mapping[str, "Shape | None"]
"""The keys of an object, or of each object in a list; the shape of a key's value, None for any."""


def pruned(value: Any, shape: Shape) -> Any:
    """The value with the keys of its shape only, at every level, and without nulls."""
    if isinstance(value, list):
        return [pruned(entry, shape) for entry in value]
    if not isinstance(value, dict):
        return value
    return {
        key: entry if (inner := shape[key]) is None else pruned(entry, inner)
        for key, entry in value.items()
        if key in shape and entry is not None
    }


def unread(
    value: Any, shape: Shape, hints: Container[str], where: str = ""
) -> Iterator[tuple[str, Shape]]:
    """The places of keys that a shape lacks, each with the keys that are read there.

    A key whose value is null asks for nothing: it is passed over, and so are hints.
    """
    if isinstance(value, list):
        for index, entry in enumerate(value):
            yield from unread(entry, shape, hints, f"{where}[{index}]")
    elif isinstance(value, dict):
        for key, entry in value.items():
            if key not in shape:
                if entry is not None and key not in hints:
                    yield f"{where}.{quote_name(key)}" if where else quote_name(key), shape
            elif (inner := shape[key]) is not None:
                yield from unread(entry, inner, hints, f"{where}.{key}" if where else key)
