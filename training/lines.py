"""Lines of training data: JSON Lines, every line checked, none skipped.

    {"text", "label"}                                 classification
    {"text", "labels": [...]}                         classification, multi_label
    {"prompt", "completion"}                          generation
    {"messages": [{"role", "content"}], "completion"} generation, in the base's chat template
    {"text"}                                          pretraining

Any line may have a "group": lines of one group are all in one part of the split. A line with a
completion may have a "stratum": every part has its share of each, as of each label.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, PrivateAttr, ValidationError

from service.adapters.formats import Strict, read_calls
from service.adapters.golden import Asking
from service.common.error_messages import problems
from service.errors import ConfigurationError
from training.config import FinetuneSettings

MAX_LINE_BYTES = 1 << 20
_Text = Annotated[str, Field(min_length=1, pattern=r"\S")]
_FORMS: Mapping[str, Callable[[str], object]] = {"json": json.loads, "tool_calls": read_calls}
"""Readers of completions that must have a form, by `evaluation.match`."""


class Line(Strict):
    """One line; lines with equal `key` are duplicates, `place` names the line in messages."""

    group: str | None = None
    _place: str = PrivateAttr("")

    @classmethod
    def read(cls, raw: bytes, place: str) -> Self:
        """The line at `place`; ValidationError if it is not of this kind."""
        line = cls.model_validate_json(raw)
        line._place = place
        return line

    @property
    def place(self) -> str:
        """The line's file and number."""
        return self._place

    @property
    def key(self) -> str:
        raise NotImplementedError

    @property
    def labelled(self) -> tuple[str, ...]:
        """The labels it has; none outside of classification."""
        return ()

    @property
    def dealt_as(self) -> str:
        """The labels or the stratum by which lines are spread evenly over a split's parts."""
        return "+".join(self.labelled)


class _TextLine(Line):
    """A line with a text; another line with the same text is a duplicate."""

    text: _Text

    @property
    def key(self) -> str:
        return self.text


class LabelledLine(_TextLine):
    """A text and its label."""

    label: _Text

    @property
    def labelled(self) -> tuple[str, ...]:
        return (self.label,)


class MultiLabelledLine(_TextLine):
    """A text and the labels that apply to it, possibly none."""

    labels: tuple[_Text, ...]

    @property
    def labelled(self) -> tuple[str, ...]:
        return self.labels


class CompletedLine(Line, Asking):
    """A prompt or a conversation, and its answer."""

    completion: _Text
    stratum: _Text | None = None

    @property
    def key(self) -> str:
        return self.prompt or repr(self.messages)

    @property
    def dealt_as(self) -> str:
        return self.stratum or ""


class PlainLine(_TextLine):
    """A text for pretraining."""


def read_lines(settings: FinetuneSettings) -> list[Line]:
    """Every line of the run's data files, in their order.

    Raises ConfigurationError with file, line number and reason for the first line that cannot be
    used: not JSON, a missing, unknown or empty field, a label that `labels` does not have, an
    answer that is not JSON under `match: json`, or holds a call that is not under `match:
    tool_calls`; and for a file that cannot be read or holds no line.
    """
    return [
        line for file in settings.data.files for line in read_file(settings, file, settings.labels)
    ]


def read_file(settings: FinetuneSettings, file: Path, labels: Collection[str] | None) -> list[Line]:
    """Every line of one file; its labels must be among `labels`; raises as `read_lines`."""
    kind = _kind(settings)
    match = settings.evaluation.match
    found: list[Line] = []
    for number, raw in _numbered(file):
        place = f"{file.name}: line {number}"
        if len(raw) > MAX_LINE_BYTES:
            raise ConfigurationError(f"{place}: {len(raw)} bytes; the limit is {MAX_LINE_BYTES}")
        try:
            line = kind.read(raw, place)
        except ValidationError as error:
            problem = next(problems(error.errors(include_url=False)))
            raise ConfigurationError(f"{place}: {problem}") from error
        if labels is not None:
            _check_labels(line, labels)
        if match in _FORMS and isinstance(line, CompletedLine):
            _check_form(line, match)
        found.append(line)
    if not found:
        raise ConfigurationError(f"{file.name}: holds no line")
    return found


def _kind(settings: FinetuneSettings) -> type[Line]:
    match settings.task:
        case "classification":
            return MultiLabelledLine if settings.multi_label else LabelledLine
        case "generation":
            return CompletedLine
        case "pretraining":
            return PlainLine


def _check_labels(line: Line, labels: Collection[str]) -> None:
    for name in line.labelled:
        if name not in labels:
            raise ConfigurationError(
                f"{line.place}: unknown label {name!r:.80}; the labels are {', '.join(labels)}"
            )


def _check_form(line: CompletedLine, match: str) -> None:
    try:
        _FORMS[match](line.completion)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(
            f"{line.place}: completion: must be JSON, because evaluation.match is {match}, got "
            f"{line.completion!r:.80}"
        ) from error


def _numbered(file: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with file.open("rb") as lines:
            yield from enumerate(lines, 1)
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read: {error.strerror}") from error


def label_names(lines: Sequence[Line]) -> tuple[str, ...]:
    """The labels that lines have, in alphabetical order."""
    return tuple(sorted({name for line in lines for name in line.labelled}))
