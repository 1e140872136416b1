"""Routes of encoders: POST /v1/embeddings, /v1/rerank and /v1/score."""

import base64
import time
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Response
from pydantic import Field, model_validator

from service.adapters.choice import check_task
from service.context import RequestContext
from service.encoders import Input, Pair, PairReads, pool_all, prompt_of
from service.engine.contract import Pooled
from service.engine.pooling import EncoderInfo
from service.errors import InvalidRequest, UnsupportedFeature
from service.http.bodies import (
    AnswerBody,
    EngineBody,
    Many,
    RequestBody,
    render_items,
    with_data,
)
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.limits.caps import check_entries, check_text, check_values
from service.runtime.parts import Runtime
from service.settings.limits import LimitSettings

Tokens = Annotated[list[int], Many]
TRUNCATE = "Cut a longer text at its end; false refuses it. Default: the encoder's setting."


class EncoderBody(EngineBody):
    """A body that asks an encoder."""

    truncate: bool | None = Field(None, description=TRUNCATE)
    truncate_prompt_tokens: int | None = Field(
        None,
        ge=-1,
        description="Cut a longer text to so many tokens, special ones included; -1: to the "
        "encoder's context.",
    )

    def most_tokens(self, info: EncoderInfo) -> int | None:
        """Tokens that a text is cut to; InvalidRequest for more than the encoder reads."""
        if (self.truncate_prompt_tokens or 0) > info.max_model_len:
            raise InvalidRequest.at(
                "truncate_prompt_tokens",
                f"at most the encoder's context of {info.max_model_len}, "
                f"got {self.truncate_prompt_tokens}",
            )
        return info.most_tokens(self.truncate, self.truncate_prompt_tokens)


class EmbeddingsRequest(EncoderBody):
    """Texts or token ids to embed."""

    model: str = Field(description="An encoder for embeddings.")
    input: str | Annotated[list[str], Many] | Tokens | Annotated[list[Tokens], Many] = Field(
        description="Texts, or token ids, which are read without special tokens beside them."
    )
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(
        None, ge=1, description="Shorter vectors; only encoders trained for it (Matryoshka)."
    )
    input_type: str | None = Field(
        None,
        max_length=64,
        description="What the texts are, such as `query` or `document`: the encoder's prompt of "
        "that name is put before each.",
    )
    user: str | None = Field(None, max_length=512, description="Not read.")


async def embed_inputs(
    name: str,
    given: Any,
    field: str,
    runtime: Runtime,
    context: RequestContext,
    *,
    cut: Callable[[EncoderInfo], int | None],
    dimensions: int | None,
    prompt: tuple[str, str | None],
    raw: bool = False,
) -> Sequence[Pooled]:
    """The embeddings of a field's text, texts or tokens; `raw` ones are as they are pooled.

    `cut` says how many tokens are read of each. `prompt` is a field's name and its value: the kind
    of input whose prompt of the encoder stands before each.

    Raises InvalidRequest for none, too many, and empty or too long inputs, for `dimensions` that
    the encoder was not trained for, and for a prompt that it has not.
    """
    encoder, limits = runtime.models.choose_encoder(name, context), runtime.settings.limits
    check_task(encoder.info, "embed")
    if dimensions == encoder.info.width:
        dimensions = None  # vLLM refuses any for an encoder that is no Matryoshka model
    _check_dimensions(dimensions, encoder.info)
    is_one = isinstance(given, str) or (given and isinstance(given[0], int))
    inputs: list[Input] = [given] if is_one else given
    before = prompt_of(encoder.info, *prompt)

    def place(index: int) -> str:
        return field if is_one else f"{field}[{index}]"

    check_entries(len(inputs), limits.embedding_inputs, field, "texts")
    check_values(len(inputs), dimensions or encoder.info.width, field, limits)
    for index, each in enumerate(inputs):
        if isinstance(each, str):
            check_text(each, place(index), limits)
        elif not each:
            raise InvalidRequest(f"{place(index)}: no tokens", param=field)
        elif before:
            raise InvalidRequest.at(prompt[0], "only beside texts, not beside token ids")
    if before:
        inputs = [f"{before}{each}" for each in inputs]
    most, context.parts = cut(encoder.info), len(inputs)
    return await pool_all(encoder, inputs, place, most=most, dimensions=dimensions, raw=raw)


def _check_dimensions(dimensions: int | None, info: EncoderInfo) -> None:
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
    pooled = await embed_inputs(
        body.model,
        body.input,
        "input",
        runtime,
        context,
        cut=body.most_tokens,
        dimensions=body.dimensions,
        prompt=("input_type", body.input_type),
    )
    items = await render_items(
        EmbeddingBody.of(index, each, body.encoding_format) for index, each in enumerate(pooled)
    )
    answer = EmbeddingsAnswer(model=body.model, data=[], usage=EncoderUsage.of(pooled))
    return Response(with_data(answer, items), media_type="application/json")


_MODEL = "An encoder that scores pairs (a cross-encoder), or one for embeddings: their cosine."
Texts = str | Annotated[list[str], Many]


class DocumentBody(RequestBody):
    """A document in Cohere's older form."""

    text: str


class RerankRequest(EncoderBody):
    """A query, and the documents to order by how relevant they are to it."""

    model: str = Field(description=_MODEL)
    query: str = Field(min_length=1)
    documents: Annotated[list[str | DocumentBody], Many] = Field(min_length=1)
    top_n: int | None = Field(None, ge=1, description="List at most so many, the best.")
    return_documents: bool = Field(False, description="Repeat each document in its result.")

    def pairs(self, limits: LimitSettings) -> list[Pair]:
        """The query with each document; InvalidRequest for texts over a cap."""
        check_entries(len(self.documents), limits.pairs, "documents", "documents")
        check_text(self.query, "query", limits)
        texts = [each if isinstance(each, str) else each.text for each in self.documents]
        for index, text in enumerate(texts):
            check_text(text, f"documents[{index}]", limits)
        return [(self.query, text) for text in texts]


class ScoreRequest(EncoderBody):
    """Pairs of texts to score: one with one, one with each, or each with its own."""

    model: str = Field(description=_MODEL)
    text_1: Texts | None = None
    text_2: Texts | None = None
    queries: Texts | None = Field(None, description="Another name of `text_1`.")
    documents: Texts | None = Field(None, description="Another name of `text_2`.")

    @model_validator(mode="after")
    def _one_form(self) -> "ScoreRequest":
        given = {name for name in _FORMS[0] + _FORMS[1] if getattr(self, name) is not None}
        if given not in [set(form) for form in _FORMS]:
            raise ValueError("give text_1 and text_2, or queries and documents")
        return self

    @property
    def form(self) -> tuple[str, str]:
        """The names of the fields that hold the first and the second texts."""
        return _FORMS[0] if self.text_1 is not None else _FORMS[1]

    def pairs(self, limits: LimitSettings) -> list[Pair]:
        """The pairs; InvalidRequest for lists that cannot be paired and texts over a cap."""
        form = self.form
        firsts, seconds = (_texts_in(getattr(self, name)) for name in form)
        for name, texts in zip(form, (firsts, seconds), strict=True):
            check_entries(len(texts), limits.pairs, name, "texts")
            for index, text in enumerate(texts):
                check_text(text, f"{name}[{index}]", limits)
        if len(firsts) not in (1, len(seconds)):
            raise InvalidRequest.at(
                form[0], f"one text, or as many as {form[1]}; got {len(firsts)} and {len(seconds)}"
            )
        if len(firsts) == 1:
            firsts *= len(seconds)
        return list(zip(firsts, seconds, strict=True))


_FORMS = (("text_1", "text_2"), ("queries", "documents"))


def _texts_in(texts: Texts) -> list[str]:
    return [texts] if isinstance(texts, str) else list(texts)


class RankedBody(AnswerBody):
    """One document: its place in the request, and its score."""

    index: int
    relevance_score: float
    document: DocumentBody | None = None


class RerankAnswer(AnswerBody):
    """Documents, the most relevant first."""

    id: str
    object: Literal["list"] = "list"
    model: str
    results: list[RankedBody]
    usage: EncoderUsage
    meta: dict[str, dict[str, str]] = Field({"api_version": {"version": "2"}})
    """Facts that Cohere's clients read."""


class ScoreBody(AnswerBody):
    """Score of one pair."""

    index: int
    object: Literal["score"] = "score"
    score: float


class ScoreAnswer(AnswerBody):
    """Scores in the order of the pairs."""

    id: str
    object: Literal["list"] = "list"
    created: int
    model: str
    data: list[ScoreBody]
    usage: EncoderUsage


async def pair_scores(
    name: str,
    pairs: Sequence[Pair],
    fields: tuple[str, str],
    runtime: Runtime,
    context: RequestContext,
    *,
    cut: Callable[[EncoderInfo], int | None],
    raw: bool = False,
) -> tuple[list[float], EncoderUsage]:
    """The scores of the pairs and the tokens used; errors of an input name one of the `fields`.

    `raw` scores of a cross-encoder are its logits.
    """
    encoder = runtime.models.choose_encoder(name, context)
    check_task(encoder.info, "score", "embed")
    reads = PairReads.of(encoder.info.task, pairs)
    check_values(len(reads.inputs), encoder.info.width, fields[1], runtime.settings.limits)
    context.parts = len(reads.inputs)
    pooled = await pool_all(
        encoder,
        reads.inputs,
        lambda index: reads.place(index, *fields),
        most=cut(encoder.info),
        raw=raw,
    )
    return reads.scores(pooled), EncoderUsage.of(pooled)


@router.post("/v1/rerank", response_model_exclude_none=True)
@router.post("/v2/rerank", response_model_exclude_none=True)
async def rerank(body: RerankRequest, runtime: TheRuntime, context: TheContext) -> RerankAnswer:
    """Order documents by how relevant they are to a query, in Cohere's and Jina's form.

    `/v2/rerank` is the path of Cohere's second version.
    """
    pairs = body.pairs(runtime.settings.limits)
    fields = ("query", "documents")
    scores, usage = await pair_scores(
        body.model, pairs, fields, runtime, context, cut=body.most_tokens
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
    scores, usage = await pair_scores(
        body.model, pairs, body.form, runtime, context, cut=body.most_tokens
    )
    return ScoreAnswer(
        id=context.request_id,
        created=int(time.time()),
        model=body.model,
        data=[ScoreBody(index=index, score=each) for index, each in enumerate(scores)],
        usage=usage,
    )
