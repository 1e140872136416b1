"""Problems that pydantic finds in a file of the user's, as one line."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError


def problems(error: ValidationError) -> str:
    """Every problem with its place, such as `load.open.stepp_s: unknown key`.

    A list that is too short because its items have problems is left out.
    """
    found = error.errors(include_url=False)
    parents = {each["loc"][:depth] for each in found for depth in range(len(each["loc"]))}
    return "; ".join(_told(each) for each in found if each["loc"] not in parents or not each["loc"])


def _told(problem: Mapping[str, Any]) -> str:
    place = ".".join(map(str, problem["loc"])) or "the file"
    kind, given = problem["type"], problem["input"]
    if kind == "extra_forbidden":
        return f"{place}: unknown key"
    if kind == "value_error" or not isinstance(given, str | int | float | None):
        return f"{place}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{place}: {problem['msg']}, got {given!r}"
