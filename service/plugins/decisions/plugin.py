"""The plugin of POST /v1/decisions, as OpenAI's, for all models that give labels probabilities."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Literal, Self

from fastapi import APIRouter, Response
from pydantic_core import to_json

from service.adapters.choice import check_task
from service.adapters.decisions import DecisionsRecord
from service.classification.encoder import HeadClassifier, Verdicts
from service.classification.frame import check_length
from service.common.aio import slots_for
from service.context import RequestContext
from service.context.answer import Answer, FirstText
from service.engine.texts import LabelEngine, size_of
from service.errors import InvalidRequest
from service.http.bodies import AnswerBody
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.plugin import Host, Plugin, Runtime, Served
from service.plugins.decisions.asking import (
    Decided,
    Decider,
    InferenceDecider,
    LabelDecider,
    ModelDecider,
    QuestionWriter,
    decide_all,
)
from service.plugins.decisions.body import (
    Asking,
    Choice,
    DecisionsBody,
    Predicate,
    check_answers,
)
from service.plugins.decisions.settings import DecisionsSettings
from service.plugins.decisions.systemone import SystemOneAnswer, SystemOneBody
from service.plugins.decisions.wording import TASK

_ROUTE = "/v1/decisions"
_SYSTEM_ONE = "/v1/systemone"

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


class RefusalAnswer(AnswerBody):
    """The model cannot tell, as `decisions.refuse` says."""

    type: Literal["refusal"] = "refusal"
    name: str | None


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
    answers: list[PredicateAnswer | ChoiceAnswer | LevelAnswer | RefusalAnswer]
    usage: DecisionsUsage


class DecisionsPlugin(Plugin):
    """Closed questions about an input."""

    routers = (router,)
    operations: ClassVar[Mapping[str, str | None]] = {_ROUTE: "classify", _SYSTEM_ONE: "classify"}
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
        _SYSTEM_ONE: {
            "A question about a state": {
                "state": "The parcel came two days late, and the box was torn.",
                "questions": {
                    "subject": {
                        "type": "choice",
                        "instructions": "What is it about?",
                        "criteria": {"delivery": None, "price": None},
                    },
                },
            },
        },
    }

    @classmethod
    def of(cls, host: Host) -> Self:
        return cls(host.settings.section(DecisionsSettings))

    def __init__(self, settings: DecisionsSettings) -> None:
        self._settings = settings
        self._writer: QuestionWriter | None = None

    async def decide(
        self, asked: "Asked", runtime: Runtime, context: RequestContext
    ) -> Sequence[Decided]:
        """The answers to a request's questions; each is unsure only if the service may refuse."""
        check_answers(asked.questions, runtime.settings.limits)
        context.parts = len(asked.questions)
        decider, most = await self._decider(asked, runtime, context)
        encoder = runtime.models.is_encoder(asked.model)
        # Of an encoder's own admission control nothing is known here; its refusals narrow the rest.
        crowded = (lambda: False) if encoder else partial(_crowded, runtime)
        decided = await decide_all(decider, asked.questions, most, crowded)
        text = FirstText(score=decided[0].confidence)
        noted = context.extended(Answer)
        noted.first_text = noted.first_result = text
        if self._settings.refuse:
            return decided
        return [replace(each, sure=True) for each in decided]

    async def _decider(
        self, asked: "Asked", runtime: Runtime, context: RequestContext
    ) -> tuple[Decider, int]:
        """What answers the questions, and how many are asked of it at one time."""
        models, state, model = runtime.models, asked.state, asked.model
        if models.is_encoder(model):
            encoder = models.choose_encoder(model, context)
            check_task(encoder.info, "classify")
            most = encoder.info.max_num_seqs
            slots = asyncio.Semaphore(slots_for(most, len(asked.questions)))
            if (verdicts := Verdicts.of(encoder.info.labels)) is not None:
                return InferenceDecider(encoder, verdicts, state, slots), most
            head = HeadClassifier(encoder)
            return LabelDecider(head, models.sets(context, head.conformal), state, slots), most
        chosen = models.choose(model, context)
        await runtime.plugins.accept(Served(context, runtime, asked.texts, writes=False))
        engine = runtime.base.engine
        most = engine.model.max_num_seqs
        slots = asyncio.Semaphore(slots_for(most, len(asked.questions)))
        if chosen.version is not None and chosen.version.classifier is not None:
            own = chosen.own_classifier()
            return LabelDecider(own, models.sets(context, own.conformal), state, slots), most
        recorded = self._settings.base if chosen.version is None else chosen.decisions
        how, writer = asked.how or recorded, await self._writer_of(engine, asked.task)
        return ModelDecider(writer, chosen.adapter, how, state, slots), most

    async def _writer_of(self, engine: LabelEngine, task: str) -> QuestionWriter:
        """What writes questions after a task; a caller's own is read in the tenant's turn."""
        if task != TASK:
            await check_length(task, engine)
            return await engine.prepare(size_of(task), partial(QuestionWriter, engine, task))
        if self._writer is None:
            self._writer = QuestionWriter(engine)
        return self._writer


def _crowded(runtime: Runtime) -> bool:
    """True if another request would wait for the language model."""
    admission = runtime.base.admission
    return admission.queued > 0 or admission.in_flight >= admission.limit


@dataclass(frozen=True, slots=True)
class Asked:
    """The questions of a request, in either form; `task` is what is said before the input."""

    model: str
    state: str
    questions: Sequence[Asking]
    texts: Callable[[], Mapping[str, Any]]
    task: str = TASK
    how: DecisionsRecord | None = None


@router.post("/v1/decisions", response_model=DecisionsAnswer)
async def decisions(body: DecisionsBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Decide closed questions about an input, with a probability for each possible answer."""
    asked = Asked(body.model, body.state, body.questions, body.texts, how=body.asking)
    decided = await runtime.plugins.get(DecisionsPlugin).decide(asked, runtime, context)
    return Response(to_json(_answer(body, decided)), media_type="application/json")


@router.post("/v1/systemone", response_model=SystemOneAnswer)
async def systemone(body: SystemOneBody, runtime: TheRuntime, context: TheContext) -> Response:
    """Decide questions about a state, in the form of vLLM's structured decisions."""
    base = runtime.settings.model
    model = body.model or (None if base is None else base.name)
    if model is None:
        raise InvalidRequest.at("model", "required, as this service has no base model")
    questions = body.asked()
    task = f"{body.instructions}\n{TASK}" if body.instructions else TASK
    asked = Asked(model, body.text, questions, partial(body.texts, questions), task)
    decided = await runtime.plugins.get(DecisionsPlugin).decide(asked, runtime, context)
    answer = SystemOneAnswer.of(
        questions,
        decided,
        id=f"decision-{context.request_id}",
        created=int(time.time()),
        model=model,
    )
    return Response(to_json(answer), media_type="application/json")


def _answer(body: DecisionsBody, decided: Sequence[Decided]) -> DecisionsAnswer:
    tokens = sum(each.prompt_tokens for each in decided)
    cached = sum(each.cached_tokens for each in decided)
    return DecisionsAnswer(
        model=body.model,
        answers=[
            _answered(question, found)
            for question, found in zip(body.questions, decided, strict=True)
        ],
        usage=DecisionsUsage(
            input_tokens=tokens,
            input_tokens_details=CachedTokens(cached_tokens=cached),
            total_tokens=tokens,
        ),
    )


def _answered(
    question: Asking, decided: Decided
) -> PredicateAnswer | ChoiceAnswer | LevelAnswer | RefusalAnswer:
    found = [float(each) for each in decided.probabilities]
    if not decided.sure:
        return RefusalAnswer(name=question.name)
    if isinstance(question, Predicate):
        return PredicateAnswer(name=question.name, probability=found[0])
    if isinstance(question, Choice):
        values = [each.value for each in question.choices]
        return ChoiceAnswer(
            name=question.name,
            choice=values[decided.best],
            probabilities=[
                ValueProbability(value=value, probability=each)
                for value, each in zip(values, found, strict=True)
            ],
            confidence=decided.confidence,
        )
    return LevelAnswer(
        name=question.name,
        score=decided.mean,
        probabilities=[
            LevelProbability(value=index, label=level.label, probability=each)
            for index, (level, each) in enumerate(zip(question.levels, found, strict=True))
        ],
        confidence=decided.confidence,
    )
