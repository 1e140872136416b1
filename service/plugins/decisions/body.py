"""The body of POST /v1/decisions, as OpenAI's: an input, and questions about it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    Discriminator,
    Field,
    JsonValue,
    StrictBool,
    StrictStr,
    Tag,
    TypeAdapter,
    model_validator,
)

from service.adapters.decisions import DecisionsRecord
from service.errors import InvalidRequest
from service.http.bodies import EngineBody, Many, RequestBody
from service.limits.caps import check_size
from service.settings.limits import LimitSettings

MOST_QUESTIONS = 400
MOST_CHOICES = 255
MOST_LEVELS = 10
MOST_ANSWERS = 4096
"""Possible answers to all questions of a request, so that checks and rendering take little time."""


class DecisionText(RequestBody):
    """A text of a message or of a question."""

    type: Literal["input_text", "output_text"]
    text: str
    prompt_cache_breakpoint: dict[str, JsonValue] | None = Field(None, description="Not read.")

    @property
    def read(self) -> str:
        """What the model reads of it."""
        return self.text


class DecisionJson(RequestBody):
    """A JSON value, which the model reads as its text."""

    type: Literal["input_json"]
    data: JsonValue
    prompt_cache_breakpoint: dict[str, JsonValue] | None = Field(None, description="Not read.")

    @property
    def read(self) -> str:
        """What the model reads of it."""
        return json.dumps(self.data, ensure_ascii=False)


# The form is told first, so that an error within a list is not told as one of the text.
_FORM = Discriminator(lambda value: "text" if isinstance(value, str) else "list")
_Text = Annotated[str, Field(min_length=1), Tag("text")]
_Part = Annotated[DecisionText | DecisionJson, Field(discriminator="type")]
_Parts = Annotated[list[_Part], Many, Field(min_length=1), Tag("list")]
Content = Annotated[_Text | _Parts, _FORM]


def text_of(content: str | Sequence[DecisionText | DecisionJson]) -> str:
    """What the model reads of a message or of a question's instructions."""
    return content if isinstance(content, str) else "\n".join(part.read for part in content)


class InputMessage(RequestBody):
    """A message of the input."""

    type: Literal["message"] = "message"
    role: Literal["user", "system", "developer", "assistant"]
    content: Content
    phase: str | None = Field(None, description="Not read.")


class _Question(RequestBody):
    instructions: Content = Field(description="What to decide about the input.")
    name: str | None = Field(None, description="Repeated in the answer.")

    @property
    def text(self) -> str:
        """What to decide, as the model reads it."""
        return text_of(self.instructions)


class Predicate(_Question):
    """How likely it is that a statement about the input is true."""

    type: Literal["predicate"]


class Option(RequestBody):
    """One value of a choice."""

    value: StrictStr | StrictBool
    description: str | None = None

    @property
    def word(self) -> str:
        """The value as the model says it."""
        return self.value if isinstance(self.value, str) else str(self.value).lower()


class Choice(_Question):
    """Which one of several values fits the input."""

    type: Literal["choice"]
    choices: Annotated[list[Option], Many] = Field(min_length=2, max_length=MOST_CHOICES)

    @model_validator(mode="after")
    def _differ(self) -> "Choice":
        values = [(type(each.value), each.value) for each in self.choices]
        if len(set(values)) < len(values):
            raise ValueError("choices: the values must differ")
        return self


class Level(RequestBody):
    """One level of a score."""

    label: str
    description: str | None = None

    @property
    def word(self) -> str:
        """The label as the model says it."""
        return self.label


class Score(_Question):
    """How the input is rated on ordered levels, the lowest first."""

    type: Literal["score"]
    levels: Annotated[list[Level], Many] = Field(min_length=2, max_length=MOST_LEVELS)

    @model_validator(mode="after")
    def _differ(self) -> "Score":
        if len({each.label for each in self.levels}) < len(self.levels):
            raise ValueError("levels: the labels must differ")
        return self


Asking = Predicate | Choice | Score
Question = Annotated[Asking, Field(discriminator="type")]
QUESTION: TypeAdapter[Asking] = TypeAdapter(Question)


class DecisionsBody(EngineBody):
    """Questions about one input, which are answered together."""

    model: str = Field(description="The base model, an adapter, or an encoder with labels.")
    input: Annotated[
        _Text | Annotated[list[InputMessage], Many, Field(min_length=1), Tag("list")], _FORM
    ]
    questions: Annotated[list[Question], Many] = Field(min_length=1, max_length=MOST_QUESTIONS)
    safety_identifier: str | None = Field(None, max_length=128, description="Not read.")
    asking: DecisionsRecord | None = Field(
        None,
        description="How to ask a model without labels of its own, in place of what is configured "
        "for it; the probabilities are then not calibrated unless it says how.",
    )
    prompt_cache_key: str | None = Field(None, description="Not read: prefixes are always cached.")
    prompt_cache_options: dict[str, Any] | None = Field(None, description="Not read.")

    @property
    def state(self) -> str:
        """The input as one text; several messages each begin with their role."""
        if isinstance(self.input, str):
            return self.input
        if len(self.input) == 1 and self.input[0].role == "user":
            return text_of(self.input[0].content)
        return "\n\n".join(f"{each.role}: {text_of(each.content)}" for each in self.input)

    def texts(self) -> Mapping[str, Any]:
        """The texts that a model reads, for those who inspect requests."""
        return {"model": self.model, "input": self.state, "questions": texts_of(self.questions)}


def texts_of(questions: Sequence[Asking]) -> list[list[str]]:
    """The texts of questions that a model reads, for those who inspect requests."""
    return [[each.text, *_described(each)] for each in questions]


def check_answers(questions: Sequence[Asking], limits: LimitSettings) -> None:
    """Raise InvalidRequest for too many answers in all, and for blank or too long ones."""
    total = sum(len(answers_of(each)) for each in questions)
    if total > MOST_ANSWERS:
        raise InvalidRequest.at(
            "questions", f"at most {MOST_ANSWERS} possible answers together, got {total}"
        )
    for place, word in _words(questions):
        if not word.strip():
            raise InvalidRequest(f"{place}: must not be blank", param="questions")
        check_size(word, limits.label_bytes, place)


def answers_of(question: Asking) -> Sequence[Option | Level]:
    """The possible answers; a predicate's are yes and no."""
    match question:
        case Predicate():
            return (Option(value="yes"), Option(value="no"))
        case Choice(choices=choices):
            return choices
        case Score(levels=levels):
            return levels


def _described(question: Asking) -> list[str]:
    """The answers of a question that the caller wrote, each with its description."""
    answers = () if isinstance(question, Predicate) else answers_of(question)
    return [f"{each.word} {each.description or ''}".strip() for each in answers]


def _words(questions: Sequence[Asking]) -> Iterator[tuple[str, str]]:
    """The place and the word of each value and label."""
    for number, question in enumerate(questions):
        place = f"questions[{number}]"
        match question:
            case Choice():
                for index, option in enumerate(question.choices):
                    yield f"{place}.choices[{index}].value", option.word
            case Score():
                for index, level in enumerate(question.levels):
                    yield f"{place}.levels[{index}].label", level.label
