"""Depth to which a value of JSON is nested."""

from typing import Any

MAX_DEPTH = 64
"""The deepest that a request's JSON may be."""


def depth(node: Any) -> int:
    """The levels of lists and objects in it; 0 for a plain value."""
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
