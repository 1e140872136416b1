"""Regular expressions from files we did not write: bounded in length and in time.

The `regex` package, which vLLM matches the same patterns with, can stop a match; `re` cannot.
"""

import regex  # type: ignore[import-untyped]

MAX_PATTERN = 1024
_SECONDS = 1.0


class PatternRefused(ValueError):
    """The pattern is too long, malformed, or took too long on a text."""


def full_match(pattern: str, text: str) -> bool:
    """Whether the whole text matches; raises PatternRefused."""
    return first_match(rf"(?:{pattern})\Z", text) is not None


def first_match(pattern: str, text: str) -> dict[str, str | None] | None:
    """Return the named groups of a match at the start of the text, or None.

    A group that took no part is None. Raises PatternRefused.
    """
    if len(pattern) > MAX_PATTERN:
        raise PatternRefused(f"over {MAX_PATTERN} characters")
    try:
        found = regex.match(pattern, text, timeout=_SECONDS)
    except TimeoutError as error:
        raise PatternRefused(f"over {_SECONDS:g} s on one text") from error
    except regex.error as error:
        raise PatternRefused(str(error)) from error
    return None if found is None else dict(found.groupdict())
