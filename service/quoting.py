"""Values and names as a message shows them: short, on one line, never a whole prompt."""

import difflib
from collections.abc import Iterable

_MAX_CHARS = 40
_LONGEST_NAME = 64


def quote(value: object) -> str:
    """A short form of any JSON value: scalars as they are, longer ones by kind and size."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return repr(value) if len(value) <= _MAX_CHARS else f"{len(value)} characters"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        return f"an object of {len(value)} keys"
    if isinstance(value, int) and value.bit_length() > 128:
        return f"an integer of {value.bit_length()} bits"
    return repr(value)[:_MAX_CHARS]


def quote_name(name: str) -> str:
    """A field's name as the caller gave it, without quotes; cut when it is long."""
    shown = repr(name[:_MAX_CHARS])[1:-1]
    return shown if len(name) <= _MAX_CHARS else f"{shown}..."


def nearest(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` for the closest known name; nothing for none, or a name too long."""
    if len(name) > _LONGEST_NAME:
        return ""  # a megabyte would be compared with each of the others for a fifth of a second
    match = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {match[0]!r}?" if match else ""
