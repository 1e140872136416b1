"""The body of POST /v1/systemone, as vLLM's, and its answers: questions and criteria by name."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from pydantic import Field, JsonValue

from service.errors import InvalidRequest, UnsupportedFeature
from service.http.bodies import AnswerBody, EngineBody, RequestBody
from service.plugins.decisions.asking import Decided
from service.plugins.decisions.body import (
    MOST_CHOICES,
    MOST_LEVELS,
    MOST_QUESTIONS,
    Asking,
    Choice,
    Level,
    Option,
    Predicate,
    Score,
    texts_of,
)


class SystemOneQuestion(RequestBody):
    """A question; `criteria` are the options of a choice, or the levels of a score."""

    type: Literal["choice", "noul", "score"]
    instructions: JsonValue = ""
    criteria: dict[str, str | None] | list[str] | None = Field(None)


class SystemOneBody(EngineBody):
    """Questions about one state, by their names."""

    model: str | None = Field(None, description="Default the base model.")
    state: JsonValue = Field(description="What the questions are about: text or JSON.")
    questions: dict[str, SystemOneQuestion] = Field(min_length=1, max_length=MOST_QUESTIONS)
    instructions: str | None = Field(None, description="Placed before the state.")
    cache_salt: str | None = Field(None, description="Not read: each tenant has its own.")
    priority: Literal[0] = Field(0, description="It is the tenant's.")
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="`enable_thinking` may be false, as it always is."
    )

    @property
    def text(self) -> str:
        """The state as the model reads it."""
        state = self.state
        return state if isinstance(state, str) else json.dumps(state, ensure_ascii=False)

    def texts(self, asked: Sequence[Asking]) -> Mapping[str, Any]:
        """The texts that a model reads, for those who inspect requests."""
        return {
            "model": self.model,
            "state": self.text,
            "instructions": self.instructions,
            "questions": texts_of(asked),
        }

    def asked(self) -> list[Asking]:
        """The questions in the form of /v1/decisions, in their order; InvalidRequest as there."""
        if (self.chat_template_kwargs or {}) not in ({}, {"enable_thinking": False}):
            raise UnsupportedFeature(
                "chat_template_kwargs: the template is rendered once, as the service is configured",
                param="chat_template_kwargs",
            )
        return [_question(name, each) for name, each in self.questions.items()]


def _question(name: str, asked: SystemOneQuestion) -> Asking:
    place, criteria = f"questions.{name}.criteria", asked.criteria
    said = asked.instructions
    text = (said if isinstance(said, str) else json.dumps(said, ensure_ascii=False)) or "Which?"
    match asked.type:
        case "choice":
            if not isinstance(criteria, dict) or not 2 <= len(criteria) <= MOST_CHOICES:
                raise _refused(place, f"2 to {MOST_CHOICES} options with a description or null")
            options = [Option(value=value, description=each) for value, each in criteria.items()]
            return Choice(type="choice", instructions=text, name=name, choices=options)
        case "score":
            levels = criteria if isinstance(criteria, list) else []
            if not 2 <= len(set(levels)) == len(levels) <= MOST_LEVELS:
                raise _refused(place, f"a list of 2 to {MOST_LEVELS} different levels")
            listed = [Level(label=each) for each in levels]
            return Score(type="score", instructions=text, name=name, levels=listed)
        case "noul":
            found = {} if criteria is None else criteria
            if not isinstance(found, dict) or not found.keys() <= {"true", "false"}:
                raise _refused(place, "an object with `true` and `false`, or null")
            means = [
                f"\n{answer}: {found[key]}"
                for key, answer in (("true", "yes"), ("false", "no"))
                if found.get(key)
            ]
            return Predicate(type="predicate", instructions="".join([text, *means]), name=name)


def _refused(place: str, wanted: str) -> InvalidRequest:
    return InvalidRequest(f"{place}: must be {wanted}", param="questions")


class Diagnostics(AnswerBody):
    """The share of the answers' first tokens in all probability, and if the likeliest is one."""

    label_mass: float
    argmax_is_label: bool


class SystemOneUsage(AnswerBody):
    """Tokens that were read; nothing is written."""

    input_tokens: int
    output_tokens: int = 0


class SystemOneAnswer(AnswerBody):
    """The answers by the names of their questions."""

    id: str
    object: Literal["structured_decision"] = "structured_decision"
    created: int
    model: str
    answers: dict[str, dict[str, Any]]
    usage: SystemOneUsage
    diagnostics: dict[str, Diagnostics]

    @classmethod
    def of(
        cls,
        questions: Sequence[Asking],
        decided: Sequence[Decided],
        **fields: Any,
    ) -> "SystemOneAnswer":
        """The answer to these questions, each of which has its name."""
        named = list(zip([str(each.name) for each in questions], questions, decided, strict=True))
        return cls(
            answers={name: _answer(question, found) for name, question, found in named},
            usage=SystemOneUsage(input_tokens=sum(each.prompt_tokens for each in decided)),
            diagnostics={
                name: Diagnostics(label_mass=found.mass, argmax_is_label=found.begins)
                for name, _, found in named
            },
            **fields,
        )


def _answer(question: Asking, found: Decided) -> dict[str, Any]:
    if not found.sure:
        return {"type": "refusal"}
    probabilities = [float(each) for each in found.probabilities]
    confidence = found.confidence
    match question:
        case Predicate():
            yes, no = probabilities
            both = {"yes": yes, "no": no}
            return {"type": "noul", "noul": yes, "probabilities": both, "confidence": confidence}
        case Choice(choices=choices):
            words = [each.word for each in choices]
            return {
                "type": "choice",
                "choice": words[found.best],
                "probabilities": dict(zip(words, probabilities, strict=True)),
                "confidence": confidence,
            }
        case Score(levels=levels):
            return {
                "type": "score",
                "score": found.mean,
                "legend": {str(index): each.label for index, each in enumerate(levels)},
                "probabilities": {str(index): each for index, each in enumerate(probabilities)},
                "confidence": confidence,
            }
