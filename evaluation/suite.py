"""Suite of evaluation tasks: a YAML file with files of lines and the bars of their metrics."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, field_validator, model_validator

from evaluation.lines import Noise
from service.common.plain_yaml import read_mapping, validated
from service.settings.section import Section, ServedName

BAR = r"^(>=|<=|within) -?\d+(\.\d+)?$"
_Text = Annotated[str, Field(min_length=1, max_length=4096)]
_Labels = Annotated[tuple[_Text, ...], Field(min_length=2, max_length=256)]
_PATHS = ("lines", "include", "tokenizer")
_OF_ANSWERS = ("match", "chrf", "token_f1")
_OF_CHOICES = ("accuracy", "macro_f1", "ece", "brier", "abstention", "aurc")


class _Task(Section):
    """Fields of every task."""

    metrics: ClassVar[tuple[str, ...]] = ()

    name: ServedName
    about: str = Field("", max_length=1024, description="What it measures, for the report.")
    bars: dict[str, Annotated[str, Field(pattern=BAR)]] = Field(
        {}, description="Metric -> `>= X`, `<= X`, or `within X` for an amount of at most X."
    )

    @model_validator(mode="after")
    def _bars_of_its_metrics(self) -> Self:
        known = self.measured()
        for name in self.bars:
            if known and name not in known:
                raise ValueError(f"bars: no metric {name!r}; there are {', '.join(known)}")
        return self

    def measured(self) -> tuple[str, ...]:
        """Names of the task's metrics; empty if only the results name them."""
        return self.metrics


class _Lines(_Task):
    """A task with lines of its own."""

    lines: Path = Field(description="JSON Lines, relative to the suite.")
    licence: str = Field(min_length=1, max_length=256, description="Of the lines.")


class _Asked(_Lines):
    """A task that asks for labels; for the base model it may set the question's wording."""

    instruction: _Text | None = Field(None, description="What to ask; else the service's own.")
    template: _Text | None = Field(
        None, description="Plain text around `{input}` in place of the chat and the instruction."
    )

    @model_validator(mode="after")
    def _one_question(self) -> Self:
        if self.template is not None and self.template.count("{input}") != 1:
            raise ValueError("template: needs {input} exactly once")
        if self.template is not None and self.instruction is not None:
            raise ValueError("instruction: not beside a template")
        return self


class _Labelled(_Asked):
    """A task whose lines share their labels."""

    labels: _Labels | None = Field(
        None, description="To choose from; none for a model with labels of its own."
    )


class Classification(_Labelled):
    """Lines {"text", "label"}."""

    metrics = _OF_CHOICES
    kind: Literal["classification"]


class Choice(_Asked):
    """Lines {"question", "choices": [...], "answer": one of the choices}."""

    metrics = ("accuracy", "ece", "brier", "aurc")
    kind: Literal["choice"]


class Decisions(_Lines):
    """Lines {"input", "question", "answer"}, the question as in /v1/decisions."""

    metrics = ("accuracy", "ece", "brier", "abstention", "aurc")
    kind: Literal["decisions"]


class Generation(_Lines):
    """Lines {"prompt" or "messages", "completion"}, and "alternatives" if other answers are right
    too; under `match: regex` {..., "pattern"}."""

    kind: Literal["generation"]
    match: Literal["exact", "json", "tool_calls", "regex", "words"] = Field(
        "exact", description="Comparison of an answer with its line, for the metric `match`."
    )
    max_tokens: int = Field(128, ge=1, le=4096)

    def measured(self) -> tuple[str, ...]:
        """Names of the task's metrics; with a pattern there are none that compare words."""
        return _OF_ANSWERS[:1] if self.match == "regex" else _OF_ANSWERS


class Refusal(_Lines):
    """Lines {"prompt" or "messages"}: the share of answers that contain one of the patterns."""

    metrics = ("refusal",)
    kind: Literal["refusal"]
    patterns: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=100)]
    max_tokens: int = Field(128, ge=1, le=4096)

    @field_validator("patterns")
    @classmethod
    def _are_expressions(cls, patterns: tuple[str, ...]) -> tuple[str, ...]:
        for pattern in patterns:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r}: is not a regular expression: {error}") from error
        return patterns


class Bias(_Labelled):
    """Lines {"text"} with `{name}` in them, filled with the names of two groups."""

    metrics = ("gap", "flips")
    kind: Literal["bias"]
    groups: dict[str, Annotated[tuple[_Text, ...], Field(min_length=1, max_length=32)]] = Field(
        description="Two groups, each with the texts that stand for `{name}`."
    )
    label: _Text = Field(description="The label whose probability is the score.")

    @field_validator("groups")
    @classmethod
    def _are_two(cls, groups: Mapping[str, Any]) -> Mapping[str, Any]:
        if len(groups) != 2:
            raise ValueError(f"needs two groups, got {len(groups)}")
        return groups


class Robustness(_Task):
    """Lines of a classification with noise: the accuracy that each kind of noise costs."""

    kind: Literal["robustness"]
    of: str = Field(description="An earlier classification task of the suite.")
    noise: Annotated[tuple[Noise, ...], Field(min_length=1)]

    def measured(self) -> tuple[str, ...]:
        """Names of the task's metrics, one for each kind of noise."""
        return tuple(f"{noise}_loss" for noise in self.noise)


class LmEval(_Task):
    """A task or group in lm-eval's own format, run by its program; its metrics are its own."""

    kind: Literal["lm-eval"]
    task: Annotated[str, Field(pattern=r"^\w[\w./-]{0,127}$")] = Field(
        description="Its name, as lm-eval lists it or a file of `include` gives it."
    )
    include: Path | None = Field(
        None, description="Folder of lm-eval's YAML files, relative to the suite."
    )
    api: Literal["completions", "chat"] = Field(
        "completions", description="Route; only completions give probabilities of choices."
    )
    tokenizer: str | None = Field(
        None,
        min_length=1,
        description="Folder, relative to the suite, or name on the Hub; else the model's name.",
    )
    shots: int | None = Field(None, ge=0, le=64, description="Examples; else the task's own.")
    limit: int | None = Field(None, ge=1, description="Lines of each task; else all.")
    licence: str = Field(min_length=1, max_length=256, description="Of the lines.")


Task = Classification | Choice | Decisions | Generation | Refusal | Bias | Robustness | LmEval


class Suite(Section):
    """Tasks that are run together against one model of a service."""

    schema_: Literal[1] = Field(alias="schema")
    name: ServedName
    model: ServedName | None = Field(None, description="Asked unless --model names another.")
    judge: Literal["value", "interval"] = Field(
        "value", description="A bar stands if the value meets it, or the whole interval does."
    )
    tasks: Annotated[
        tuple[Annotated[Task, Field(discriminator="kind")], ...], Field(min_length=1, max_length=64)
    ]

    @model_validator(mode="after")
    def _tasks_refer_back(self) -> Self:
        earlier: dict[str, str] = {}
        for task in self.tasks:
            if task.name in earlier:
                raise ValueError(f"tasks: the name {task.name!r} is given twice")
            if isinstance(task, Robustness) and earlier.get(task.of) != "classification":
                raise ValueError(
                    f"tasks: {task.name}: of: must name an earlier classification, got {task.of!r}"
                )
            earlier[task.name] = task.kind
        return self


def load_suite(file: Path) -> Suite:
    """Read a suite; ConfigurationError with one line per problem, each naming its key."""
    tree = read_mapping(file)
    folder = file.resolve().parent
    for task in tree["tasks"] if isinstance(tree.get("tasks"), list) else ():
        for field in _PATHS if isinstance(task, dict) else ():
            given = task.get(field)
            if isinstance(given, str) and (field != "tokenizer" or (folder / given).is_dir()):
                task[field] = os.path.normpath(folder / given)
    return validated(Suite, tree, file)


def suite_json_schema() -> dict[str, Any]:
    """The JSON Schema of suite files."""
    return Suite.model_json_schema() | {"$schema": "https://json-schema.org/draft/2020-12/schema"}
