"""POST /v1/classify."""

import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from fastapi import APIRouter, Response
from pydantic_core import to_json

from service.adapters.choice import check_task
from service.classification.encoder import HeadClassifier, Verdicts
from service.classification.result import (
    Classification,
    Classified,
    Outcome,
    ResultOptions,
    TextClassifier,
    classify_batch,
    given_labels,
)
from service.classification.scorer import Score
from service.common.aio import slots_for
from service.context import RequestContext
from service.context.answer import Answer, FirstText, ReplayText
from service.engine.pooling import ConformalSets
from service.engine.texts import Writer
from service.errors import InvalidRequest
from service.http.bodies import ErrorBody, TimingBody, with_data
from service.http.exchange import NDJSON_MEDIA_TYPE as MEDIA_TYPE
from service.http.exchange import PushedStream, line
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.limits.caps import check_text
from service.routes.classify_bodies import (
    ClassificationBody,
    ClassifyAnswer,
    ClassifyRequest,
    ClassifySummary,
    ClassifyUsage,
    ConformalBody,
    FailureBody,
    LabelScoreBody,
)
from service.runtime.parts import Runtime, Served
from service.telemetry.metrics import OTHER_LABEL

router = APIRouter(route_class=JsonRoute, tags=["classification"])


@router.post(
    "/v1/classify", response_model=ClassifyAnswer, responses={200: {"content": {MEDIA_TYPE: {}}}}
)
async def classify(body: ClassifyRequest, runtime: TheRuntime, context: TheContext) -> Response:
    """Classify texts among labels, with exact probabilities; whole, or as lines of NDJSON."""
    if runtime.models.is_encoder(body.model):
        chosen = _choose_encoder(body, runtime, context)
    else:
        chosen = await _choose_language_model(body, runtime, context)
    classifier, inputs = chosen.classifier, chosen.inputs
    context.parts = len(inputs) * classifier.reads
    if (kept := context.extension(ReplayText)) is not None:
        kept.text, kept.threshold = inputs[0], body.threshold
    width = slots_for(chosen.most, len(inputs))
    sets = runtime.models.sets(context, classifier.conformal)
    outcomes = classify_batch(classifier, inputs, _options(body, classifier, sets), width)
    answer = _Answer(runtime, context, chosen, sets)
    if MEDIA_TYPE in context.headers.get("accept", ""):
        return PushedStream(partial(_write_lines, outcomes, answer), media_type=MEDIA_TYPE)
    async with aclosing(outcomes):
        results = {outcome.index: to_json(answer.add(outcome)) async for outcome in outcomes}
    items = [results[index] for index in sorted(results)]
    whole = with_data(ClassifyAnswer(data=[], **answer.summarize()), items)
    return Response(whole, media_type="application/json")


@dataclass(frozen=True, slots=True)
class _Chosen:
    """A request's classifier and inputs; the engine runs at most `most` requests at once."""

    classifier: TextClassifier
    inputs: list[str]
    most: int
    own_labels: bool


def _choose_encoder(body: ClassifyRequest, runtime: Runtime, context: RequestContext) -> _Chosen:
    encoder = runtime.models.choose_encoder(body.model, context)
    check_task(encoder.info, "classify")
    limits = runtime.settings.limits
    inputs = body.inputs(limits)
    verdicts = Verdicts.of(encoder.info.labels)
    classifier = None if verdicts is None else body.hypotheses(encoder, verdicts, limits)
    if classifier is None:
        body.refuse_question("encoder")
    for index, text in enumerate(inputs):
        if text:  # an empty one fails alone
            check_text(text, f"input[{index}]", limits)
    own = classifier is None
    chosen = classifier or HeadClassifier(encoder, truncate=body.truncate)
    return _Chosen(chosen, inputs, encoder.info.max_num_seqs, own_labels=own)


async def _choose_language_model(
    body: ClassifyRequest, runtime: Runtime, context: RequestContext
) -> _Chosen:
    model = runtime.models.choose(body.model, context)
    inputs = body.inputs(runtime.settings.limits)
    question = body.question(runtime.settings.limits, of_base=model.version is None)
    if question is not None:
        await runtime.plugins.accept(Served(context, runtime, body.model_dump, writes=False))
    context.parts = len(inputs)
    classifier: TextClassifier
    if question is None:
        classifier = model.own_classifier()
    else:
        calibrate = body.calibrate is not False
        classifier = await runtime.base.questions.classifier(question, calibrate=calibrate)
    most = runtime.base.engine.model.max_num_seqs
    return _Chosen(classifier, inputs, most, own_labels=question is None)


def _options(
    body: ClassifyRequest, classifier: TextClassifier, sets: ConformalSets | None
) -> ResultOptions:
    if body.multi_label and not classifier.multi_label:
        raise InvalidRequest.at(
            "multi_label", "the labels of this adapter or encoder exclude each other, got true"
        )
    return ResultOptions(
        multi_label=classifier.multi_label,
        top_k=body.top_k,
        threshold=body.threshold,
        conformal=sets,
    )


async def _write_lines(
    outcomes: AsyncGenerator[Outcome, None], answer: "_Answer", writer: Writer
) -> None:
    async with aclosing(outcomes):
        async for outcome in outcomes:
            writer.write(line(answer.add(outcome)))
            await writer.flush()
    writer.write(line(ClassifySummary(**answer.summarize())))
    await writer.flush()


@dataclass(slots=True)
class _Answer:
    """Renders outcomes, counts them and adds up their tokens."""

    runtime: Runtime
    context: RequestContext
    chosen: _Chosen
    sets: ConformalSets | None
    scores: list[Score] = field(default_factory=list)

    def add(self, outcome: Outcome) -> ClassificationBody | FailureBody:
        if not isinstance(outcome, Classified):
            self._note(outcome.index, FirstText(failed=True))
            error = ErrorBody.model_validate(outcome.error.body(self.context.request_id)).error
            return FailureBody(index=outcome.index, error=error)
        result, score = outcome.result, outcome.score
        self.scores.append(score)
        given = self._given(result)
        if outcome.index == 0 or self.context.extended(Answer).first_result is None:
            self._note(outcome.index, self._text(result, given))
        if outcome.index == 0 and (kept := self.context.extension(ReplayText)) is not None:
            kept.labels = given
            kept.probs = dict(zip(self.chosen.classifier.names, result.probs, strict=True))
        reads = self.chosen.classifier.reads
        self.runtime.metrics.count_classification(self.context, given, result.score, reads)
        if (reference := self.chosen.classifier.reference) is not None:
            characters = len(self.chosen.inputs[outcome.index])
            best = result.scores[0].label
            model = self.context.unversioned_model
            self.runtime.metrics.drift.observe(model, reference, best, result.score, characters)
        return ClassificationBody(
            index=outcome.index,
            label=result.label,
            score=result.score,
            scores=[LabelScoreBody(label=s.label, score=s.score) for s in result.scores],
            probs=list(result.probs),
            num_classes=len(result.probs),
            label_set=None if result.label_set is None else list(result.label_set),
            conformal_set=None if result.conformal_set is None else list(result.conformal_set),
            abstained=result.abstained,
        )

    def _note(self, index: int, text: FirstText) -> None:
        answer = self.context.extended(Answer)
        if index == 0:
            answer.first_text = text
        if answer.first_result is None:
            answer.first_result = text
            self.context.progressed()

    def _text(self, result: Classification, given: Sequence[str]) -> FirstText:
        if not self.chosen.own_labels or self.chosen.classifier.multi_label:
            return FirstText(given, score=result.score)
        place = self.chosen.classifier.names.index
        members = result.label_set
        label_set = None if members is None else [place(label) for label in members]
        best = place(result.scores[0].label)
        return FirstText(
            given, score=result.score, best=best, label_set=label_set, conformal=self.sets
        )

    def _given(self, result: Classification) -> Sequence[str]:
        given = given_labels(result, multi_label=self.chosen.classifier.multi_label)
        return given if self.chosen.own_labels else [OTHER_LABEL for _ in given]

    def summarize(self) -> dict[str, Any]:
        """Summary of the whole request, for both forms of the answer."""
        prompt_tokens = sum(score.prompt_tokens for score in self.scores)
        return {
            "id": self.context.request_id,
            "created": int(time.time()),
            "model": self.context.model,
            "usage": ClassifyUsage(
                prompt_tokens=prompt_tokens,
                completion_tokens=0,
                total_tokens=prompt_tokens,
                cached_tokens=sum(score.cached_tokens for score in self.scores),
            ),
            "conformal": self.sets and ConformalBody.of(self.sets),
            "timing": TimingBody.of(self.context),
        }
