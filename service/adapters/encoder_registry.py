"""Encoders that are served, by name."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.common.error_messages import quote
from service.engine.pooling import EncoderEngine, EncoderInfo, EncoderTask
from service.errors import EncoderQuarantined, UnsupportedFeature

_ROUTES: Mapping[EncoderTask, str] = {
    "embed": "/v1/embeddings, /v1/rerank or /v1/score",
    "score": "/v1/rerank or /v1/score",
    "classify": "/v1/classify",
}


@dataclass(frozen=True, slots=True)
class QuarantinedEncoder:
    """An encoder that could not start; the log says why."""

    name: str


Encoders = Mapping[str, EncoderEngine | QuarantinedEncoder]


def engine_of(encoder: EncoderEngine | QuarantinedEncoder) -> EncoderEngine:
    """The encoder's engine; EncoderQuarantined for one that could not start."""
    if isinstance(encoder, QuarantinedEncoder):
        raise EncoderQuarantined(
            f"model: the encoder {quote(encoder.name)} could not start and is not served",
            param="model",
        )
    return encoder


def check_task(info: EncoderInfo, *tasks: EncoderTask) -> None:
    """Raise UnsupportedFeature for an encoder whose task is none of these."""
    if info.task not in tasks:
        raise for_other_routes(info)


def for_other_routes(info: EncoderInfo) -> UnsupportedFeature:
    """The refusal of an encoder on a route that is not of its task."""
    return UnsupportedFeature(
        f"model: {quote(info.name)} is an encoder for {_ROUTES[info.task]}", param="model"
    )


def with_routes(info: EncoderInfo) -> str:
    """The encoder's name and the routes of its task."""
    return f"{quote(info.name)} for {_ROUTES[info.task]}"
