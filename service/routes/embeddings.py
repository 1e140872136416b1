"""POST /v1/embeddings."""

from fastapi import APIRouter, Response

from service.adapters.encoder_registry import check_task
from service.encoders.passages import pool_all
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.http.streams import rendered, with_data
from service.routes.bodies.embeddings import (
    EmbeddingBody,
    EmbeddingsAnswer,
    EmbeddingsRequest,
    EncoderUsage,
    check_dimensions,
)

router = APIRouter(route_class=JsonRoute, tags=["encoders"])


@router.post("/v1/embeddings", response_model=EmbeddingsAnswer)
async def embeddings(body: EmbeddingsRequest, runtime: TheRuntime, context: TheContext) -> Response:
    """Embed texts, in OpenAI's form."""
    encoder = runtime.models.choose_encoder(body.model, context)
    check_task(encoder.info, "embed")
    check_dimensions(body.dimensions, encoder.info)
    inputs = body.inputs(encoder.info, runtime.settings.limits)
    context.set_timeout(body.timeout_ms)
    context.parts = len(inputs)
    pooled = await pool_all(
        encoder, inputs, body.place, truncate=body.truncate, dimensions=body.dimensions
    )
    items = await rendered(
        EmbeddingBody.of(index, each, body.encoding_format) for index, each in enumerate(pooled)
    )
    answer = EmbeddingsAnswer(model=body.model, data=[], usage=EncoderUsage.of(pooled))
    return Response(with_data(answer, items), media_type="application/json")
