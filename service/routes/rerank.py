"""Scores of pairs of texts: POST /v1/rerank and /v1/score."""

import time
from collections.abc import Sequence
from typing import Annotated, Literal

from fastapi import APIRouter
from pydantic import Field, model_validator

from service.adapters.choice import check_task
from service.context import RequestContext
from service.encoders import Pair, PairReads, pool_all
from service.errors import InvalidRequest
from service.http.bodies import AnswerBody, EngineBody, Many, RequestBody
from service.http.json_routes import JsonRoute, TheContext, TheRuntime
from service.limits.caps import check_entries, check_text, check_values
from service.routes.embeddings import TRUNCATE, EncoderUsage
from service.runtime.parts import Runtime
from service.settings.limits import LimitSettings

_MODEL = "An encoder that scores pairs (a cross-encoder), or one for embeddings: their cosine."
Texts = str | Annotated[list[str], Many]


class DocumentBody(RequestBody):
    """A document in Cohere's older form."""

    text: str


class RerankRequest(EngineBody):
    """A query, and the documents to order by how relevant they are to it."""

    model: str = Field(description=_MODEL)
    query: str = Field(min_length=1)
    documents: Annotated[list[str | DocumentBody], Many] = Field(min_length=1)
    top_n: int | None = Field(None, ge=1, description="List at most so many, the best.")
    return_documents: bool = Field(False, description="Repeat each document in its result.")
    truncate: bool = Field(False, description=TRUNCATE)

    def pairs(self, limits: LimitSettings) -> list[Pair]:
        """The query with each document; InvalidRequest for texts over a cap."""
        check_entries(len(self.documents), limits.pairs, "documents", "documents")
        check_text(self.query, "query", limits)
        texts = [each if isinstance(each, str) else each.text for each in self.documents]
        for index, text in enumerate(texts):
            check_text(text, f"documents[{index}]", limits)
        return [(self.query, text) for text in texts]


class ScoreRequest(EngineBody):
    """Pairs of texts to score: one with one, one with each, or each with its own."""

    model: str = Field(description=_MODEL)
    text_1: Texts | None = None
    text_2: Texts | None = None
    queries: Texts | None = Field(None, description="Another name of `text_1`.")
    documents: Texts | None = Field(None, description="Another name of `text_2`.")
    truncate: bool = Field(False, description=TRUNCATE)

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
        firsts, seconds = (_listed(getattr(self, name)) for name in form)
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


def _listed(texts: Texts) -> list[str]:
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
    truncate: bool,
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
        truncate=truncate,
        raw=raw,
    )
    return reads.scores(pooled), EncoderUsage.of(pooled)


router = APIRouter(route_class=JsonRoute, tags=["encoders"])


@router.post("/v1/rerank", response_model_exclude_none=True)
@router.post("/v2/rerank", response_model_exclude_none=True)
async def rerank(body: RerankRequest, runtime: TheRuntime, context: TheContext) -> RerankAnswer:
    """Order documents by how relevant they are to a query, in Cohere's and Jina's form.

    `/v2/rerank` is the path of Cohere's second version.
    """
    pairs = body.pairs(runtime.settings.limits)
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
