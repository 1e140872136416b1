"""The plugin of POST /v1/decisions, as OpenAI's, for all models that give labels probabilities."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
from fastapi import APIRouter, Response
from pydantic_core import to_json

from service.adapters.choice import check_task
from service.classification.encoder import HeadClassifier, Verdicts
from service.common.aio import slots_for
from service.context import RequestContext
from service.context.answer import Answer, FirstText
from service.http.bodies import AnswerBody
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.plugin import Plugin, Runtime, Served
from service.plugins.decisions.asking import (
    Asking,
    Decided,
    Decider,
    InferenceDecider,
    LabelDecider,
    ModelDecider,
    decide_all,
)
from service.plugins.decisions.body import Choice, DecisionsBody, Predicate

_ROUTE = "/v1/decisions"

router = APIRouter(route_class=JsonRoute, tags=["decisions"])


class PredicateAnswer(AnswerBody):
    """The probability that a statement is true."""

    type: Literal["predicate"] = "predicate"
    name: str | None
    probability: float


class ValueProbability(AnswerBody):
    """A value of a choice, and its probability."""

    value: str | bool
    probability: float


class ChoiceAnswer(AnswerBody):
    """The most likely value; `confidence` is its probability."""

    type: Literal["choice"] = "choice"
    name: str | None
    choice: str | bool
    probabilities: list[ValueProbability]
    confidence: float


class LevelProbability(AnswerBody):
    """A level, by its index and its label, and its probability."""

    value: int
    label: str
    probability: float


class LevelAnswer(AnswerBody):
    """The mean of the levels' indices; `confidence` is the probability of the likeliest level."""

    type: Literal["score"] = "score"
    name: str | None
    score: float
    probabilities: list[LevelProbability]
    confidence: float


class CachedTokens(AnswerBody):
    """How many of the tokens were cached."""

    cached_tokens: int
    cache_write_tokens: int = 0


class OutputDetails(AnswerBody):
    """What the tokens of the answer are."""

    reasoning_tokens: int = 0


class DecisionsUsage(AnswerBody):
    """Tokens that were read for all questions; nothing is written."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int = 0
    output_tokens_details: OutputDetails = OutputDetails()
    total_tokens: int


class DecisionsAnswer(AnswerBody):
    """The answers, in the order of the questions."""

    model: str
    answers: list[PredicateAnswer | ChoiceAnswer | LevelAnswer]
    usage: DecisionsUsage


class DecisionsPlugin(Plugin):
    """Closed questions about an input."""

    routers = (router,)
    operations: ClassVar[Mapping[str, str | None]] = {_ROUTE: "classify"}
    examples: ClassVar[Mapping[str, Any]] = {
        _ROUTE: {
            "Three questions about a text": {
                "input": "The parcel came two days late, and the box was torn.",
                "questions": [
                    {"type": "predicate", "instructions": "The customer is satisfied."},
                    {
                        "type": "choice",
                        "name": "subject",
                        "instructions": "What is it about?",
                        "choices": [{"value": "delivery"}, {"value": "price"}],
                    },
                    {
                        "type": "score",
                        "instructions": "How urgent is an answer?",
                        "levels": [{"label": "low"}, {"label": "medium"}, {"label": "high"}],
                    },
                ],
            },
        },
    }


@router.post("/v1/decisions", response_model=DecisionsAnswer)
async def decisions(body: DecisionsBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Decide closed questions about an input, with a probability for each possible answer."""
    body.check(runtime.settings.limits)
    context.parts = len(body.questions)
    decider, most = await _decider(body, runtime, context)
    decided = await decide_all(decider, body.questions, most)
    first = decided[0].probabilities
    text = FirstText(score=float(first.max()))
    noted = context.extended(Answer)
    noted.first_text = noted.first_result = text
    return Response(to_json(_answer(body, decided)), media_type="application/json")


async def _decider(
    body: DecisionsBody, runtime: Runtime, context: RequestContext
) -> tuple[Decider, int]:
    """What answers the questions, and how many are asked of it at one time."""
    if runtime.models.is_encoder(body.model):
        encoder = runtime.models.choose_encoder(body.model, context)
        check_task(encoder.info, "classify")
        most = encoder.info.max_num_seqs
        slots = asyncio.Semaphore(slots_for(most, len(body.questions)))
        if (verdicts := Verdicts.of(encoder.info.labels)) is not None:
            return InferenceDecider(encoder, verdicts, body.state, slots), most
        return LabelDecider(HeadClassifier(encoder), body.state, slots), most
    chosen = runtime.models.choose(body.model, context)
    await runtime.plugins.accept(Served(context, runtime, body.texts, writes=False))
    engine = runtime.base.engine
    most = engine.model.max_num_seqs
    slots = asyncio.Semaphore(slots_for(most, len(body.questions)))
    if chosen.version is not None and chosen.version.classifier is not None:
        return LabelDecider(chosen.own_classifier(), body.state, slots), most
    return ModelDecider(engine, chosen.adapter, body.state, slots), most


def _answer(body: DecisionsBody, decided: Sequence[Decided]) -> DecisionsAnswer:
    tokens = sum(each.prompt_tokens for each in decided)
    cached = sum(each.cached_tokens for each in decided)
    return DecisionsAnswer(
        model=body.model,
        answers=[
            _answered(question, [float(each) for each in found.probabilities])
            for question, found in zip(body.questions, decided, strict=True)
        ],
        usage=DecisionsUsage(
            input_tokens=tokens,
            input_tokens_details=CachedTokens(cached_tokens=cached),
            total_tokens=tokens,
        ),
    )


def _answered(question: Asking, found: list[float]) -> PredicateAnswer | ChoiceAnswer | LevelAnswer:
    if isinstance(question, Predicate):
        return PredicateAnswer(name=question.name, probability=found[0])
    best = int(np.argmax(found))
    if isinstance(question, Choice):
        values = [each.value for each in question.choices]
        return ChoiceAnswer(
            name=question.name,
            choice=values[best],
            probabilities=[
                ValueProbability(value=value, probability=each)
                for value, each in zip(values, found, strict=True)
            ],
            confidence=found[best],
        )
    return LevelAnswer(
        name=question.name,
        score=sum(index * each for index, each in enumerate(found)),
        probabilities=[
            LevelProbability(value=index, label=level.label, probability=each)
            for index, (level, each) in enumerate(zip(question.levels, found, strict=True))
        ],
        confidence=found[best],
    )
