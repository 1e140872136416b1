"""Strict parsing of the files of adapters: base classes, errors and regular expressions."""

import json
import re
import time
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import regex  # type: ignore[import-untyped]
from pydantic import BaseModel, ConfigDict, Field

from service.sources.reference import FileRefused


class Strict(BaseModel):
    """Frozen; unknown keys, values of other types, NaN and infinities are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class AdapterRefused(FileRefused):
    """A file of an adapter breaks a rule.

    The owner is the manifest's name, or the folder's while no manifest could be read.
    """

    kind: ClassVar[str] = "adapter"


MAX_PATTERN = 1024
PATTERN_SECONDS = 1.0


class PatternRefused(ValueError):
    """The pattern is too long, malformed, or took too long."""


class Matcher:
    """Matches regular expressions, within a number of seconds for all matches together."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._left = seconds

    def full_match(self, pattern: str, text: str) -> bool:
        """True where the whole text matches; raises PatternRefused."""
        return self.first_match(rf"(?:{pattern})\Z", text) is not None

    def first_match(self, pattern: str, text: str) -> dict[str, str | None] | None:
        """Return the named groups of a match at the start of the text, or None without a match.

        A group that did not take part in the match is None. Raises PatternRefused.
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
    return Matcher(PATTERN_SECONDS).full_match(pattern, text)


_Share = Annotated[float, Field(gt=0, lt=1)]


class GuardBound(Strict):
    """A guard's labels and threshold, with a bound on the harmless texts that reach it.

    With probability `confidence`, at most a share `alpha` of harmless texts reaches the threshold
    for one of the labels. `llm-service calibrate-guard` computed this from `lines` harmless lines.
    """

    labels: Annotated[tuple[str, ...], Field(min_length=1, max_length=64)]
    threshold: Annotated[float, Field(gt=0, le=1)]
    alpha: _Share
    confidence: _Share
    lines: Annotated[int, Field(ge=1)]

    @property
    def of_labels(self) -> tuple[tuple[str, ...], float]:
        """The labels and the threshold in the form that a classifier takes."""
        return self.labels, self.threshold


_Count = Annotated[int, Field(ge=0)]


class InputReference(Strict):
    """Histograms of typical inputs, written by `llm-service calibrate-drift`.

    `labels` counts the best labels, `scores` their probabilities and `lengths` the numbers of
    characters, in the bins of `engine.pooling`.
    """

    labels: Annotated[Mapping[str, _Count], Field(min_length=1)]
    scores: Annotated[tuple[_Count, ...], Field(min_length=12, max_length=12)]
    lengths: Annotated[tuple[_Count, ...], Field(min_length=11, max_length=11)]


_BLOCK = re.compile(r"<tool_call>(.*?)</tool_call>", re.DOTALL)


def read_calls(answer: str) -> tuple[str, list[Any]]:
    """Split an answer into the text outside of tool calls and the parsed JSON of each call.

    Raises ValueError for a call that is not JSON or has no end.
    """
    text = _BLOCK.sub("", answer).strip()
    if "<tool_call>" in text:
        raise ValueError("a call does not end with </tool_call>")
    try:
        return text, [json.loads(block) for block in _BLOCK.findall(answer)]
    except RecursionError:
        raise ValueError("a call is nested too deeply") from None
