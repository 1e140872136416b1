"""POST /embed, /rerank and /predict, in the form of text-embeddings-inference, as a plugin."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Self

from fastapi import APIRouter, Response
from pydantic_core import to_json

from service.adapters.choice import check_task
from service.classification.encoder import predictions
from service.encoders import pool_all, unit
from service.errors import NotFound
from service.http.bodies import render_items
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.limits.caps import check_values
from service.plugin import Host, Plugin, Runtime
from service.plugins.tei.bodies import (
    EmbedRequest,
    PredictionBody,
    PredictRequest,
    RankBody,
    TeiRerankRequest,
)
from service.plugins.tei.settings import TeiSettings
from service.routes.encoders import embed_inputs, pair_scores

_JSON: Mapping[str, Any] = {"media_type": "application/json"}

router = APIRouter(route_class=JsonRoute, tags=["text-embeddings-inference"])


class TeiPlugin(Plugin):
    """Routes whose requests name no model; enabled if `tei` names an encoder."""

    routers = (router,)
    switch = "tei"
    operations: ClassVar = {"/embed": "embeddings", "/predict": "classify", "/rerank": "rerank"}

    @classmethod
    def of(cls, host: Host) -> Self | None:
        settings = host.settings.section(TeiSettings)
        return cls(settings) if settings.names else None

    def __init__(self, settings: TeiSettings) -> None:
        self.settings = settings


def _settings(runtime: Runtime) -> TeiSettings:
    return runtime.plugins.get(TeiPlugin).settings


@router.post("/embed", response_model=list[list[float]])
async def embed(body: EmbedRequest, runtime: TheRuntime, context: TheContext) -> Response:
    """Embed texts; one vector for each, also for a single text."""
    name = _named(_settings(runtime).embed, "embed")
    pooled = await embed_inputs(
        name,
        body.inputs,
        "inputs",
        runtime,
        context,
        cut=body.most_tokens,
        dimensions=body.dimensions,
        prompt=("prompt_name", body.prompt_name),
        raw=True,
    )
    return await _listed(
        (unit(each.values) if body.normalize else each.values).tolist() for each in pooled
    )


@router.post("/rerank", response_model_exclude_none=True)
async def rerank(
    body: TeiRerankRequest, runtime: TheRuntime, context: TheContext
) -> list[RankBody]:
    """Order texts by how relevant they are to a query."""
    name = _named(_settings(runtime).rerank, "rerank")
    pairs, fields = body.pairs(runtime.settings.limits), ("query", "texts")
    scores, _ = await pair_scores(
        name, pairs, fields, runtime, context, cut=body.most_tokens, raw=body.raw_scores
    )
    ranks = [
        RankBody(index=index, score=score, text=body.texts[index] if body.return_text else None)
        for index, score in enumerate(scores)
    ]
    return sorted(ranks, key=lambda rank: -rank.score)


@router.post("/predict", response_model=list[PredictionBody] | list[list[PredictionBody]])
async def predict(body: PredictRequest, runtime: TheRuntime, context: TheContext) -> Response:
    """Classify a text or a pair, or a batch of these; the best label comes first."""
    name = _named(_settings(runtime).predict, "predict")
    encoder = runtime.models.choose_encoder(name, context)
    check_task(encoder.info, "classify")
    inputs = body.listed(runtime.settings.limits)
    check_values(len(inputs), encoder.info.width, "inputs", runtime.settings.limits)
    context.parts = len(inputs)
    pooled = await pool_all(encoder, inputs, body.place, most=body.most_tokens(encoder.info))
    scored = (predictions(each, encoder.info, raw=body.raw_scores) for each in pooled)
    found = ([{"score": score, "label": label} for label, score in each] for each in scored)
    return await _listed(found) if body.is_batch else Response(to_json(next(found)), **_JSON)


async def _listed(items: Iterable[object]) -> Response:
    """A list in JSON."""
    return Response(b"[" + b",".join(await render_items(items)) + b"]", **_JSON)


def _named(encoder: str | None, key: str) -> str:
    if encoder is None:
        raise NotFound(f"There is nothing at '/{key}': the setting tei.{key} names no encoder")
    return encoder
