"""Size of a JSON value by its lists and objects: how deep they are nested, and their number."""

import re
from collections.abc import Iterator
from typing import Any

MAX_DEPTH = 64
"""Largest nesting depth of a request's JSON."""

MAX_HOLDERS = 10_000
"""Most lists and objects in a request's JSON: for each a model may hold the loop for 4 us."""

_STRINGS = re.compile(rb'(?:"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)[^"\[{]*+)++', re.DOTALL)
"""Strings of JSON up to the next bracket; one without an end goes to the end, so that each byte is
read once.
"""


def has_many_holders(*documents: bytes) -> bool:
    """True for JSON that has more than MAX_HOLDERS lists and objects together; it is not parsed.

    Parsing 1 MiB of empty lists takes 40 to 66 ms in which no other thread runs.
    """
    return sum(map(_brackets, documents)) > MAX_HOLDERS and (
        sum(_brackets(_STRINGS.sub(b"", raw)) for raw in documents) > MAX_HOLDERS
    )


def _brackets(raw: bytes) -> int:
    return raw.count(b"[") + raw.count(b"{")


def depth(node: Any) -> int:
    """The levels of lists and objects in a value; 0 for a plain one."""
    return sum(1 for _ in levels(node))


def levels(node: Any) -> Iterator[list[Any]]:
    """The lists and objects of each level of a value, from the outermost."""
    level = [node] if isinstance(node, dict | list) else []
    while level:
        yield level
        children = (
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
        )
        level = [child for child in children if isinstance(child, dict | list)]
