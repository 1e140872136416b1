"""Held-out lines: requests with their right answers, in the form of training lines.

    {"prompt", "completion"} or {"messages": [{"role", "content"}], "completion"}

A line may have the "group" and the "stratum" of training; lines of one group resemble each other.
"""

import json
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from service.adapters.golden import GenerationExample, GoldenMessage
from service.adapters.golden_score import matches
from service.adapters.manifest import GenerationGolden
from service.correctness.fit import Match
from service.errors import ConfigurationError
from service.quoting import problems

MAX_LINES = 10_000
_MAX_BYTES = 64 << 20
_Text = Annotated[str, Field(min_length=1, max_length=32_768, pattern=r"\S")]


class HeldOutLine(BaseModel):
    """A request that the adapter was not trained on, and its right answer."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    prompt: _Text | None = None
    messages: Annotated[tuple[GoldenMessage, ...], Field(min_length=1, max_length=64)] | None = None
    completion: _Text
    group: str | None = None
    stratum: str | None = None

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("needs one of prompt and messages")
        return self

    def is_right(self, answer: str, match: Match) -> bool:
        """True if an answer is the right one, as a golden example's is (`golden_score.matches`)."""
        expect = json.loads(self.completion) if match == "json" else self.completion
        example = GenerationExample(expect=expect)
        return matches(example, answer, GenerationGolden(file="lines", match=match))


def read_held_out(file: Path, match: Match) -> list[HeldOutLine]:
    """Every line of a file, in order.

    Raises ConfigurationError with file, line number and reason for the first line that cannot be
    used, and for a file that cannot be read, is larger than 64 MiB, or holds no line or more than
    MAX_LINES.
    """
    try:
        if (size := file.stat().st_size) > _MAX_BYTES:
            raise ConfigurationError(f"{file}: {size} bytes; the limit is {_MAX_BYTES}")
        rows = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    if not 1 <= len(rows) <= MAX_LINES:
        raise ConfigurationError(f"{file}: must hold 1..{MAX_LINES} lines, got {len(rows)}")
    return [_read(row, f"{file}: line {number}", match) for number, row in enumerate(rows, 1)]


def _read(row: bytes, place: str, match: Match) -> HeldOutLine:
    try:
        line = HeldOutLine.model_validate_json(row)
        if match == "json":
            json.loads(line.completion)
        return line
    except ValidationError as error:
        problem = next(problems(error.errors(include_url=False), HeldOutLine))
        raise ConfigurationError(f"{place}: {problem}") from error
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{place}: completion: must be JSON, because the manifest's golden.match is json"
        ) from error
