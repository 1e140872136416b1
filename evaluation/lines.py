"""Lines of evaluation tasks: JSON Lines, every line checked, none skipped; and noise in texts."""

import json
import random
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import Field, JsonValue, ValidationError, model_validator

from service.adapters.decisions import QuestionType
from service.adapters.formats import Strict, read_calls
from service.adapters.golden import Asking
from service.common.error_messages import problems, quote
from service.errors import ConfigurationError

MAX_LINES = 10_000
_MAX_BYTES = 64 << 20
_Text = Annotated[str, Field(min_length=1, max_length=32_768, pattern=r"\S")]


class Line(Strict):
    """A line; `group` and `stratum` belong to fine-tuning, whose files can be used here."""

    group: str | None = None
    stratum: str | None = None


class LabelledLine(Line):
    """A text and its label."""

    text: _Text
    label: _Text


class ChoiceLine(Line):
    """A question, 2 to 64 choices, and the right one."""

    question: _Text
    choices: Annotated[tuple[_Text, ...], Field(min_length=2, max_length=64)]
    answer: _Text

    @model_validator(mode="after")
    def _answer_is_a_choice(self) -> "ChoiceLine":
        if self.answer not in self.choices:
            raise ValueError(f"answer: must be one of the choices, got {quote(self.answer)}")
        return self


class AskedLine(Line, Asking):
    """A request."""


class CompletedLine(AskedLine):
    """A request, its answer, and other answers that are right too."""

    completion: _Text
    alternatives: Annotated[tuple[_Text, ...], Field(max_length=64)] = ()

    @property
    def right(self) -> tuple[str, ...]:
        """All correct answers, the completion first."""
        return self.completion, *self.alternatives


class JsonLine(CompletedLine):
    """A request and its answers in JSON."""

    @model_validator(mode="after")
    def _is_json(self) -> "JsonLine":
        for answer in self.right:
            try:
                json.loads(answer)
            except (ValueError, RecursionError):
                raise ValueError(
                    f"completion and alternatives: must be JSON, got {quote(answer)}"
                ) from None
        return self


class CallsLine(CompletedLine):
    """A request and its answers, whose tool calls can be read."""

    @model_validator(mode="after")
    def _has_calls(self) -> "CallsLine":
        try:
            for answer in self.right:
                read_calls(answer)
        except (ValueError, RecursionError):
            raise ValueError("completion and alternatives: a call is not JSON") from None
        return self


class PatternLine(AskedLine):
    """A request and the pattern that matches its whole answer."""

    pattern: _Text


class DecisionLine(Line):
    """An input, a question as in /v1/decisions, and its answer: true or false, a value, a level."""

    input: str
    question: dict[str, JsonValue]
    answer: str | bool

    @property
    def kind(self) -> QuestionType:
        """The question's type."""
        found: QuestionType = self.question["type"]  # type: ignore[assignment]
        return found

    @property
    def answers(self) -> list[Any]:
        """The question's possible answers, in its order."""
        listed: Any = self.question
        match self.kind:
            case "predicate":
                return [True, False]
            case "choice":
                return [each.get("value") for each in listed["choices"]]
            case "score":
                return [each.get("label") for each in listed["levels"]]

    @model_validator(mode="after")
    def _is_answered(self) -> "DecisionLine":
        if self.question.get("type") not in get_args(QuestionType):
            raise ValueError(f"question.type: must be one of {', '.join(get_args(QuestionType))}")
        try:
            known = [(type(each), each) for each in self.answers]
        except (KeyError, TypeError, AttributeError):
            raise ValueError("question: must be as in /v1/decisions") from None
        if (type(self.answer), self.answer) not in known:
            raise ValueError(f"answer: must be one of the question's, got {quote(self.answer)}")
        return self


class NamedLine(Line):
    """A text with a placeholder for a name."""

    text: Annotated[_Text, Field(pattern=r"\{name\}")]


_Kind = TypeVar("_Kind", bound=Line)


def read_lines(file: Path, kind: type[_Kind]) -> list[_Kind]:
    """Every line of a file, in order.

    Raises ConfigurationError with file, line number and reason for the first line that is not of
    this kind, and for a file that cannot be read, is larger than 64 MiB, or holds no line or more
    than MAX_LINES.
    """
    try:
        if (size := file.stat().st_size) > _MAX_BYTES:
            raise ConfigurationError(f"{file}: {size} bytes; the limit is {_MAX_BYTES}")
        rows = file.read_bytes().splitlines()
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error
    if not 1 <= len(rows) <= MAX_LINES:
        raise ConfigurationError(f"{file}: must hold 1..{MAX_LINES} lines, got {len(rows)}")
    found = []
    for number, row in enumerate(rows, 1):
        try:
            found.append(kind.model_validate_json(row))
        except ValidationError as error:
            problem = next(problems(error.errors(include_url=False), kind))
            raise ConfigurationError(f"{file}: line {number}: {problem}") from error
    return found


Noise = Literal["typos", "case", "spacing"]
_WORD = re.compile(r"[^\W\d_]{4,}")
_WORDS_PER_TYPO = 5


def add_noise(text: str, noise: Noise) -> str:
    """Apply one kind of noise to a text.

    `typos`: in one of five words of at least four letters, and in at least one word, two
    neighbouring inner letters are exchanged; the choice is seeded by the text. `case`: capital
    letters only. `spacing`: every space doubled, and a space before the text.
    """
    return _CHANGES[noise](text)


def _typos(text: str) -> str:
    words = list(_WORD.finditer(text))
    if not words:
        return text
    chosen = random.Random(text)
    letters = list(text)
    for word in chosen.sample(words, -(-len(words) // _WORDS_PER_TYPO)):
        at = chosen.randrange(word.start() + 1, word.end() - 2)
        letters[at], letters[at + 1] = letters[at + 1], letters[at]
    return "".join(letters)


_CHANGES: Mapping[str, Callable[[str], str]] = {
    "typos": _typos,
    "case": str.upper,
    "spacing": lambda text: " " + text.replace(" ", "  "),
}
