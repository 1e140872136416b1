"""Plugins and commands that installed packages add, found by their entry points."""

from functools import cache
from importlib.metadata import entry_points
from typing import Any


@cache
def load_group(group: str) -> dict[str, Any]:
    """The objects of a group of entry points by name, in alphabetical order.

    An entry whose package is not installed is left out, because a part of this repository may be
    deleted. Any other error of an import is raised.
    """
    found = {}
    for entry in sorted(entry_points(group=group), key=lambda each: each.name):
        try:
            found[entry.name] = entry.load()
        except ModuleNotFoundError as error:
            if error.name is None or not entry.module.startswith(f"{error.name}."):
                raise
    return found
