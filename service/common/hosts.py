"""Lists of the names of hosts in settings."""

from collections.abc import Iterable


def is_listed(name: str, listed: Iterable[str]) -> bool:
    """True if a list has the name: as it is, as `*.` and its end, or as `*`, which is every name.

    All are in lower case.
    """
    return any(
        each in ("*", name) or (each.startswith("*.") and name.endswith(each[1:]))
        for each in listed
    )
