"""Regular expressions from files we did not write: bounded in length and in time.

The `regex` package, which vLLM matches the same patterns with, can stop a match; `re` cannot.
"""

import time

import regex  # type: ignore[import-untyped]

MAX_PATTERN = 1024
_SECONDS = 1.0


class PatternRefused(ValueError):
    """The pattern is too long, malformed, or took too long."""


class Matcher:
    """Matches patterns within so many seconds for all of them together."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left = seconds

    def full_match(self, pattern: str, text: str) -> bool:
        """True where the whole text matches; raises PatternRefused."""
        return self.first_match(rf"(?:{pattern})\Z", text) is not None

    def first_match(self, pattern: str, text: str) -> dict[str, str | None] | None:
        """Return the named groups of a match at the start of the text, or None.

        A group that took no part is None. Raises PatternRefused.
        """
        if len(pattern) > MAX_PATTERN:
            raise PatternRefused(f"over {MAX_PATTERN} characters")
        began = time.monotonic()
        try:
            if self._left <= 0:
                raise TimeoutError
            found = regex.match(pattern, text, timeout=self._left)
        except TimeoutError as error:
            raise PatternRefused(f"over {self._seconds:g} s, all matches together") from error
        except regex.error as error:
            raise PatternRefused(str(error)) from error
        finally:
            self._left -= time.monotonic() - began
        return None if found is None else dict(found.groupdict())


def full_match(pattern: str, text: str) -> bool:
    """True where the whole text matches, within a second; raises PatternRefused."""
    return Matcher(_SECONDS).full_match(pattern, text)
