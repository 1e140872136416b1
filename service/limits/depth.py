"""Nesting depth of a JSON value."""

from typing import Any

MAX_DEPTH = 64
"""Largest nesting depth of a request's JSON."""


def depth(node: Any) -> int:
    """The levels of lists and objects in a value; 0 for a plain one."""
    level, levels = [node] if isinstance(node, dict | list) else [], 0
    while level:
        levels += 1
        children = (
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
        )
        level = [child for child in children if isinstance(child, dict | list)]
    return levels
