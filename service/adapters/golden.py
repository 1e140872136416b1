"""Golden examples, which an adapter must answer correctly before it serves.

A golden file is JSON Lines, one example a line, all of one task:

    {"input": "...", "label": "positive"}                  classification
    {"input": "...", "labels": ["a", "b"]}                 classification, multi_label
    {"prompt": "...", "expect": "..."}                     generation: exact, token, words
    {"messages": [{"role", "content"}], "expect": {...}}   generation: json (any JSON value)
    {"messages": [...], "expect": "<tool_call>..."}        generation: tool_calls
    {"input": "...", "pattern": "..."}                     generation: regex

A generation example has one of `input` (put into the manifest's template), `prompt` (sent as it
is) and `messages` (the base's chat template).
"""

import itertools
import json
from collections.abc import Collection, Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, JsonValue, ValidationError, model_validator

from service.adapters.formats import AdapterRefused, PatternRefused, Strict, full_match
from service.adapters.manifest import (
    MANIFEST_FILE,
    ClassificationManifest,
    GenerationGolden,
    GenerationManifest,
    Manifest,
)
from service.common.error_messages import problems, quote
from service.sources.reference import Refuse

MAX_GOLDEN_BYTES = 16 << 20
MAX_EXAMPLES = 10_000
_TRIED = 3
_TRIED_CHARS = 800
"""Number and length of the examples that are offered to try."""
_Text = Annotated[str, Field(min_length=1, max_length=32_768)]
_Example = TypeVar("_Example", bound=Strict)


class GoldenMessage(Strict):
    """One chat turn."""

    role: Literal["system", "user", "assistant"]
    content: _Text


class ClassificationExample(Strict):
    """An input and the public names it must get: one, or the whole set under multi_label."""

    input: _Text
    label: str | None = None
    labels: tuple[str, ...] | None = None

    @property
    def expected(self) -> frozenset[str]:
        """The names as a set, whichever way they were written."""
        return frozenset(self.labels or () if self.label is None else (self.label,))


class GenerationExample(Strict):
    """One form of prompt, and one expectation of the answer."""

    input: _Text | None = None
    prompt: _Text | None = None
    messages: Annotated[tuple[GoldenMessage, ...], Field(min_length=1, max_length=64)] | None = None
    expect: JsonValue = None
    pattern: _Text | None = None


def load_classification_golden(
    folder: Path, manifest: ClassificationManifest
) -> tuple[ClassificationExample, ...]:
    """Read the golden file of a classification adapter; () if it names none.

    Raises AdapterRefused for a malformed line, a label the manifest does not have, and a file
    over its limits.
    """
    if manifest.golden is None:
        return ()
    task, file = manifest.classification, manifest.golden.file
    refuse = partial(AdapterRefused, manifest.name, file)
    return read_labelled_examples(folder / file, refuse, task.labels, multi_label=task.multi_label)


def read_labelled_examples(
    file: Path, refuse: Refuse, known: Collection[str], *, multi_label: bool
) -> tuple[ClassificationExample, ...]:
    """Read a golden file of labelled inputs, whose labels are among the `known`.

    Raises what `refuse` makes, like load_classification_golden.
    """
    examples = _parse(refuse, file, ClassificationExample)
    wanted = "labels" if multi_label else "label"
    for line, example in enumerate(examples, 1):
        named = [key for key in ("label", "labels") if getattr(example, key) is not None]
        if named != [wanted]:
            expected = f"{wanted}, as multi_label is {multi_label}"
            raise refuse(f"line {line}", expected, ", ".join(named))
        for label in example.expected:
            if label not in known:
                raise refuse(f"line {line}", "one of " + ", ".join(known), label)
    return examples


def load_generation_golden(
    folder: Path, manifest: GenerationManifest
) -> tuple[GenerationExample, ...]:
    """Read the golden file of a generation adapter; () if it names none.

    Raises AdapterRefused like load_classification_golden, and for an example that does not fit
    the manifest's `match`.
    """
    golden = manifest.golden
    if golden is None:
        return ()
    refuse = partial(AdapterRefused, manifest.name, golden.file)
    examples = _parse(refuse, folder / golden.file, GenerationExample)
    for number, example in enumerate(examples, 1):
        line = f"line {number}"
        asked = [key for key in ("input", "prompt", "messages") if getattr(example, key)]
        if len(asked) != 1:
            raise refuse(line, "one of input, prompt and messages", ", ".join(asked) or "none")
        if example.input and manifest.prompt is None:
            raise refuse(line, "prompt or messages, as the manifest has no template", "input")
        _check_answer(refuse, line, example, golden)
    return examples


def check_golden(folder: Path, manifest: Manifest) -> None:
    """Refuse golden examples, and a fingerprint of them, that could not be run.

    Raises AdapterRefused.
    """
    match manifest:
        case ClassificationManifest():
            count = len(load_classification_golden(folder, manifest))
        case GenerationManifest():
            count = len(load_generation_golden(folder, manifest))
    for read in manifest.fingerprint or ():
        if read.line > count:
            raise AdapterRefused(
                manifest.name, MANIFEST_FILE, "fingerprint", f"a line of 1..{count}", read.line
            )


def requests_to_try(folder: Path, manifest: Manifest) -> tuple[Mapping[str, JsonValue], ...]:
    """What a few short golden examples ask, as fields of a request; of different labels each.

    Raises AdapterRefused like load_classification_golden.
    """
    found: dict[object, dict[str, JsonValue]] = {}
    if isinstance(manifest, ClassificationManifest):
        for example in load_classification_golden(folder, manifest):
            if len(example.input) <= _TRIED_CHARS:
                found.setdefault(example.expected, {"input": example.input})
    else:
        for number, each in enumerate(load_generation_golden(folder, manifest)):
            asked = each.model_dump(
                mode="json", include={"prompt", "messages"}, exclude_none=True
            ) or {"prompt": manifest.prompt and manifest.prompt.render(each.input or "")}
            if len(json.dumps(asked)) <= _TRIED_CHARS:
                found[number] = asked
    return tuple(itertools.islice(found.values(), _TRIED))


def _parse(refuse: Refuse, path: Path, kind: type[_Example]) -> tuple[_Example, ...]:
    with path.open("rb") as file:
        raw = file.read(MAX_GOLDEN_BYTES + 1)
    if len(raw) > MAX_GOLDEN_BYTES:
        raise refuse("golden file", f"at most {MAX_GOLDEN_BYTES} bytes", "more")
    lines = raw.splitlines()
    if not 1 <= len(lines) <= MAX_EXAMPLES:
        raise refuse("golden file", f"1 to {MAX_EXAMPLES} lines", len(lines))
    examples: list[_Example] = []
    for number, line in enumerate(lines, 1):
        try:
            examples.append(kind.model_validate_json(line))
        except ValidationError as error:
            problem = next(problems(error.errors(include_url=False), kind))
            expected = f"{problem.field or 'the line'}: {problem.reason}"
            raise refuse(f"line {number}", expected, quote(problem.value)) from error
    return tuple(examples)


def _check_answer(
    refuse: Refuse, line: str, example: GenerationExample, golden: GenerationGolden
) -> None:
    keys = example.model_fields_set & {"expect", "pattern"}
    wanted = "pattern" if golden.match == "regex" else "expect"
    if keys != {wanted}:
        found = ", ".join(sorted(keys)) or "none"
        raise refuse(line, f"{wanted}, as match is {golden.match}", found)
    if golden.match not in ("json", "regex") and not isinstance(example.expect, str):
        raise refuse(line, "expect: text", json.dumps(example.expect))
    if example.pattern is not None:
        try:
            full_match(example.pattern, "")
        except PatternRefused as error:
            raise refuse(line, "pattern: a regular expression", error) from error


class Asking(Strict):
    """A prompt or a conversation; a conversation is put into the model's chat template.

    Its limits are those of golden examples, because any line may become a golden example.
    """

    prompt: Annotated[str, Field(min_length=1, max_length=32_768, pattern=r"\S")] | None = None
    messages: Annotated[tuple[GoldenMessage, ...], Field(min_length=1, max_length=64)] | None = None

    @model_validator(mode="after")
    def _asks_once(self) -> Self:
        if (self.prompt is None) == (self.messages is None):
            raise ValueError("needs one of prompt and messages")
        return self
