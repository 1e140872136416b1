"""POST /v1/rerank and /v1/score."""

import time
from collections.abc import Sequence

from fastapi import APIRouter

from service.api.dependencies import TheContext, TheRuntime
from service.api.json_body import JsonRoute
from service.api.schemas.embeddings import EncoderUsage
from service.api.schemas.pairs import (
    DocumentBody,
    RankedBody,
    RerankAnswer,
    RerankRequest,
    ScoreAnswer,
    ScoreBody,
    ScoreRequest,
)
from service.context import RequestContext
from service.encoders.pairs import Pair, PairReads
from service.encoders.passages import pool_all
from service.fleet.encoders import check_task
from service.limits.encoder_texts import check_values
from service.runtime.parts import Runtime

router = APIRouter(route_class=JsonRoute, tags=["encoders"])


@router.post("/v1/rerank", response_model_exclude_none=True)
@router.post("/v2/rerank", response_model_exclude_none=True)
async def rerank(body: RerankRequest, runtime: TheRuntime, context: TheContext) -> RerankAnswer:
    """Order documents by how relevant they are to a query, in Cohere's and Jina's form.

    `/v2/rerank` is the path of Cohere's second version.
    """
    pairs = body.pairs(runtime.settings.limits)
    scores, usage = await _scores(body, pairs, ("query", "documents"), runtime, context)
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
    scores, usage = await _scores(body, pairs, body.form, runtime, context)
    return ScoreAnswer(
        id=context.request_id,
        created=int(time.time()),
        model=body.model,
        data=[ScoreBody(index=index, score=each) for index, each in enumerate(scores)],
        usage=usage,
    )


async def _scores(
    body: RerankRequest | ScoreRequest,
    pairs: Sequence[Pair],
    fields: tuple[str, str],
    runtime: Runtime,
    context: RequestContext,
) -> tuple[list[float], EncoderUsage]:
    """The scores of the pairs and what they cost; errors of an input name one of the `fields`."""
    encoder = runtime.models.choose_encoder(body.model, context)
    check_task(encoder.info, "score", "embed")
    if body.timeout_ms is not None:
        context.set_timeout(body.timeout_ms)
    reads = PairReads.of(encoder.info.task, pairs)
    check_values(len(reads.inputs), encoder.info.width, fields[1], runtime.settings.limits)
    context.parts = len(reads.inputs)
    pooled = await pool_all(
        encoder, reads.inputs, lambda index: reads.place(index, *fields), truncate=body.truncate
    )
    return reads.scores(pooled), EncoderUsage.of(pooled)
