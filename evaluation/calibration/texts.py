"""Thresholds of guards and references of inputs, from texts that a running service classifies."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from pydantic import Field

from evaluation.calibration.asking import check_version
from evaluation.lines import Line
from service.adapters.formats import GuardBound, InputReference
from service.classification.calibration import Array
from service.classification.false_positives import bounded_threshold, lines_needed
from service.common.aio import together
from service.common.client import Client
from service.engine.reference import InputCounts
from service.errors import ConfigurationError

LEAST_TYPICAL = 200
"""The fewest texts of a reference."""


class TextLine(Line):
    """A text; a `label` is as in training lines, and not read."""

    text: Annotated[str, Field(min_length=1, max_length=32_768, pattern=r"\S")]
    label: str | None = None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A classification model as its folder describes it.

    `listed` is the path at which the service lists the model with its digest.
    """

    name: str
    digest: str
    listed: str
    labels: Sequence[str]
    multi_label: bool


async def ask_probs(client: Client, model: ServedModel, texts: Sequence[str]) -> Array:
    """The probability of each label for each text, a row for a text; closes the client.

    Raises ConfigurationError for a service that cannot be reached, serves other bytes under the
    model's name, or refuses a text.
    """

    async def ask(text: str) -> list[float]:
        asked = {"model": model.name, "input": text}
        (found,) = (await client.ask("/v1/classify", asked))["data"]
        return [float(probability) for probability in found["probs"]]

    async with client:
        await check_version(client, model.name, model.digest, model.listed)
        return np.array(await together(ask(text) for text in texts))


def harmless(lines: Sequence[TextLine], alpha: float, confidence: float) -> list[str]:
    """The lines' texts, each once; ConfigurationError for fewer than the bound needs."""
    texts = list(dict.fromkeys(line.text for line in lines))
    if len(texts) < (needed := lines_needed(alpha, confidence)):
        raise ConfigurationError(
            f"lines: at least {needed} different harmless texts are needed to show with confidence "
            f"{confidence:g} that at most a share {alpha:g} is flagged, got {len(texts)}"
        )
    return texts


def bound_of(
    probs: Array, model: ServedModel, flags: Sequence[str], alpha: float, confidence: float
) -> GuardBound:
    """The threshold of a guard with these labels, from the probabilities of harmless texts.

    Raises ConfigurationError if the model is certain of these labels for too many of the texts.
    """
    places = [list(model.labels).index(label) for label in flags]
    scores: Array = probs[:, places].max(axis=1)
    threshold = bounded_threshold(scores, alpha, confidence)
    if threshold > 1:
        raise ConfigurationError(
            "lines: the model is wholly sure of its label for more harmless texts than may be "
            f"flagged ({int((scores >= 1).sum())} of {len(scores)}): no threshold spares them"
        )
    return GuardBound(
        labels=tuple(flags),
        threshold=threshold,
        alpha=alpha,
        confidence=confidence,
        lines=len(scores),
    )


def typical(lines: Sequence[TextLine]) -> list[str]:
    """The lines' texts, repeated ones too, as traffic has them."""
    if len(lines) < LEAST_TYPICAL:
        raise ConfigurationError(
            f"lines: at least {LEAST_TYPICAL} texts of typical traffic are needed, got {len(lines)}"
        )
    return [line.text for line in lines]


def reference_of(probs: Array, model: ServedModel, texts: Sequence[str]) -> InputReference:
    """The histograms of typical texts."""
    counts = InputCounts(model.labels)
    for row, text in zip(probs, texts, strict=True):
        counts.add(model.labels[int(row.argmax())], float(row.max()), len(text))
    return InputReference(
        labels=counts.labels, scores=tuple(counts.scores), lengths=tuple(counts.lengths)
    )
