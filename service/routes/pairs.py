"""POST /v1/rerank and /v1/score."""

import time

from fastapi import APIRouter

from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.routes.bodies.pairs import (
    DocumentBody,
    RankedBody,
    RerankAnswer,
    RerankRequest,
    ScoreAnswer,
    ScoreBody,
    ScoreRequest,
)
from service.routes.pair_scores import pair_scores

router = APIRouter(route_class=JsonRoute, tags=["encoders"])


@router.post("/v1/rerank", response_model_exclude_none=True)
@router.post("/v2/rerank", response_model_exclude_none=True)
async def rerank(body: RerankRequest, runtime: TheRuntime, context: TheContext) -> RerankAnswer:
    """Order documents by how relevant they are to a query, in Cohere's and Jina's form.

    `/v2/rerank` is the path of Cohere's second version.
    """
    pairs = body.pairs(runtime.settings.limits)
    context.set_timeout(body.timeout_ms)
    fields = ("query", "documents")
    scores, usage = await pair_scores(
        body.model, pairs, fields, runtime, context, truncate=body.truncate
    )
    order = sorted(range(len(scores)), key=lambda index: -scores[index])[: body.top_n]
    shown = [DocumentBody(text=text) if body.return_documents else None for _, text in pairs]
    return RerankAnswer(
        id=context.request_id,
        model=body.model,
        results=[
            RankedBody(index=index, relevance_score=scores[index], document=shown[index])
            for index in order
        ],
        usage=usage,
    )


@router.post("/v1/score")
async def score(body: ScoreRequest, runtime: TheRuntime, context: TheContext) -> ScoreAnswer:
    """Score pairs of texts, in vLLM's form."""
    pairs = body.pairs(runtime.settings.limits)
    context.set_timeout(body.timeout_ms)
    scores, usage = await pair_scores(
        body.model, pairs, body.form, runtime, context, truncate=body.truncate
    )
    return ScoreAnswer(
        id=context.request_id,
        created=int(time.time()),
        model=body.model,
        data=[ScoreBody(index=index, score=each) for index, each in enumerate(scores)],
        usage=usage,
    )
