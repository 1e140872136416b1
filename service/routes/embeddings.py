"""POST /v1/embeddings, as OpenAI's."""

import base64
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field

from service.adapters.choice import check_task
from service.encoders import Input, pool_all
from service.engine.contract import Pooled
from service.engine.pooling import EncoderInfo
from service.errors import InvalidRequest, UnsupportedFeature
from service.http.bodies import (
    AnswerBody,
    EngineBody,
    Many,
    render_items,
    with_data,
)
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.limits.caps import check_entries, check_text, check_values
from service.settings.limits import LimitSettings

Tokens = Annotated[list[int], Many]
TRUNCATE = "Cut a longer text to the encoder's context, at its end; else it is refused."


class EmbeddingsRequest(EngineBody):
    """Texts, or the caller's own tokens, to embed."""

    model: str = Field(description="An encoder for embeddings.")
    input: str | Annotated[list[str], Many] | Tokens | Annotated[list[Tokens], Many] = Field(
        description="One text, a list of texts, the token ids of one text, or a list of these. "
        "Token ids are read as they are, without special tokens beside them."
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(
        None, ge=1, description="Shorter vectors; only encoders trained for it (Matryoshka)."
    )
    truncate: bool = Field(False, description=TRUNCATE)
    user: str | None = Field(None, max_length=512, description="Not read.")


def list_inputs(given: Any, field: str, width: int, limits: LimitSettings) -> list[Input]:
    """The inputs of a field as a list, for vectors of this width.

    Raises InvalidRequest for none, too many, and empty or too long ones.
    """
    listed = _listed(given)
    check_entries(len(listed), limits.embedding_inputs, field, "texts")
    check_values(len(listed), width, field, limits)
    for index, each in enumerate(listed):
        place = place_of(given, field, index)
        if isinstance(each, str):
            check_text(each, place, limits)
        elif not each:
            raise InvalidRequest(f"{place}: no tokens", param=field)
    return listed


def place_of(given: Any, field: str, index: int) -> str:
    """The place of an input in the body."""
    return f"{field}[{index}]" if _listed(given) is given else field


def _listed(given: Any) -> list[Input]:
    if isinstance(given, str) or (given and isinstance(given[0], int)):
        return [given]
    listed: list[Input] = given
    return listed


def check_dimensions(dimensions: int | None, info: EncoderInfo) -> None:
    """Raise for a length that the encoder was not trained to be cut to."""
    if dimensions is None:
        return
    if info.dimensions is None:
        raise UnsupportedFeature.at(
            "dimensions",
            f"the embeddings of this encoder have {info.width} and cannot be cut "
            f"(it is no Matryoshka model), got {dimensions}",
        )
    if dimensions not in info.dimensions:
        raise InvalidRequest.at(
            "dimensions", f"must be {_shown(info.dimensions)}, got {dimensions}"
        )


def _shown(dimensions: Sequence[int]) -> str:
    if isinstance(dimensions, range):
        return f"{dimensions[0]}..{dimensions[-1]}"
    return f"one of {', '.join(map(str, dimensions))}"


class EmbeddingBody(AnswerBody):
    """One embedding: numbers, or their 32-bit floats, little endian, in base64."""

    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str

    @classmethod
    def of(
        cls, index: int, pooled: Pooled, encoding: Literal["float", "base64"]
    ) -> "EmbeddingBody":
        """The embedding of an input."""
        values = pooled.values.astype("<f4", copy=False)
        if encoding == "base64":
            return cls(index=index, embedding=base64.b64encode(values.tobytes()).decode())
        return cls.model_construct(index=index, embedding=values.tolist())


class EncoderUsage(AnswerBody):
    """Tokens that the encoder read."""

    prompt_tokens: int
    total_tokens: int

    @classmethod
    def of(cls, pooled: Sequence[Pooled]) -> "EncoderUsage":
        """The tokens of all passages."""
        tokens = sum(each.prompt_tokens for each in pooled)
        return cls(prompt_tokens=tokens, total_tokens=tokens)


class EmbeddingsAnswer(AnswerBody):
    """Embeddings in the order of the inputs."""

    object: Literal["list"] = "list"
    model: str
    data: list[EmbeddingBody]
    usage: EncoderUsage


router = APIRouter(route_class=JsonRoute, tags=["encoders"])


@router.post("/v1/embeddings", response_model=EmbeddingsAnswer)
async def embeddings(body: EmbeddingsRequest, runtime: TheRuntime, context: TheContext) -> Response:
    """Embed texts, in OpenAI's form."""
    encoder = runtime.models.choose_encoder(body.model, context)
    check_task(encoder.info, "embed")
    check_dimensions(body.dimensions, encoder.info)
    width = body.dimensions or encoder.info.width
    inputs = list_inputs(body.input, "input", width, runtime.settings.limits)
    context.parts = len(inputs)
    pooled = await pool_all(
        encoder,
        inputs,
        partial(place_of, body.input, "input"),
        truncate=body.truncate,
        dimensions=body.dimensions,
    )
    items = await render_items(
        EmbeddingBody.of(index, each, body.encoding_format) for index, each in enumerate(pooled)
    )
    answer = EmbeddingsAnswer(model=body.model, data=[], usage=EncoderUsage.of(pooled))
    return Response(with_data(answer, items), media_type="application/json")
