"""POST /v1/classify."""

import asyncio

from fastapi import APIRouter

from service.api.dependencies import TheContext, TheRuntime, select_model
from service.api.json_body import JsonRoute
from service.api.schemas.classify import (
    ClassificationBody,
    ClassifyAnswer,
    ClassifyRequest,
    ClassifyUsage,
    LabelScore,
)
from service.api.timing import timing
from service.classification.classifier import Classification, Classifier
from service.errors import UnsupportedFeature

router = APIRouter(route_class=JsonRoute, tags=["classification"])


@router.post("/v1/classify")
async def classify(
    body: ClassifyRequest, runtime: TheRuntime, context: TheContext
) -> ClassifyAnswer:
    """Classify texts among candidate labels, with probabilities."""
    if select_model(body.model, runtime, context):
        raise UnsupportedFeature("model: adapters are not served for classification yet")
    body.refuse_unsupported()
    inputs, labels = body.inputs(runtime.settings.limits), body.labels(runtime.settings.limits)
    if body.timeout_ms is not None:
        context.set_timeout(body.timeout_ms)
    classifier = Classifier(runtime.engine, labels, body.instruction)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(classifier.classify(text)) for text in inputs]
    results = [task.result() for task in tasks]
    return ClassifyAnswer(
        id=context.request_id,
        model=body.model,
        data=[_result(i, labels, result, body.top_k) for i, result in enumerate(results)],
        usage=ClassifyUsage(
            prompt_tokens=sum(result.prompt_tokens for result in results),
            cached_tokens=sum(result.cached_tokens for result in results),
        ),
        timing=timing(context),
    )


def _result(
    index: int, labels: list[str], result: Classification, top_k: int | None
) -> ClassificationBody:
    ranked = sorted(zip(labels, result.scores, strict=True), key=lambda pair: -pair[1])
    scores = [LabelScore(label=label, score=score) for label, score in ranked]
    return ClassificationBody(
        index=index, label=scores[0].label, score=scores[0].score, scores=scores[:top_k]
    )
