"""Scores of a request's pairs, by an encoder that the tenant may use."""

from collections.abc import Sequence

from service.adapters.encoder_registry import check_task
from service.context import RequestContext
from service.encoders.pairs import Pair, PairReads
from service.encoders.passages import pool_all
from service.limits.encoder_texts import check_values
from service.routes.bodies.embeddings import EncoderUsage
from service.runtime.parts import Runtime


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
    """The scores of the pairs and what they cost; errors of an input name one of the `fields`.

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
