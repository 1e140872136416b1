"""Harmless texts asked of a running service, for the threshold of a guard."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from service.adapters.guard_bound import GuardBound
from service.classification.distribution import Array
from service.classification.false_positives import bounded_threshold, lines_needed
from service.correctness.asking import RunningService
from service.errors import ConfigurationError
from service.evaluation.lines import Line
from service.together import together


class HarmlessLine(Line):
    """A text that a guard should not flag; a `label` is as in training lines, and not read."""

    text: Annotated[str, Field(min_length=1, max_length=32_768, pattern=r"\S")]
    label: str | None = None


@dataclass(frozen=True, slots=True)
class GuardModel:
    """A classification model as its folder says: the name and digest that are served."""

    name: str
    digest: str
    listed: str
    """Path of the list that shows its digest."""
    labels: Sequence[str]


def distinct(lines: Sequence[HarmlessLine], alpha: float, confidence: float) -> list[str]:
    """The lines' texts, each once; ConfigurationError for fewer than the bound needs."""
    texts = list(dict.fromkeys(line.text for line in lines))
    if len(texts) < (needed := lines_needed(alpha, confidence)):
        raise ConfigurationError(
            f"lines: at least {needed} different harmless texts are needed to show with confidence "
            f"{confidence:g} that at most a share {alpha:g} is flagged, got {len(texts)}"
        )
    return texts


async def ask_scores(
    service: RunningService, model: GuardModel, flags: Sequence[str], texts: Sequence[str]
) -> Array:
    """The largest probability of the labels `flags` for each text.

    Raises ConfigurationError for a service that cannot be reached, serves other bytes under the
    model's name, or refuses a text.
    """
    places = [list(model.labels).index(label) for label in flags]
    slots = asyncio.Semaphore(service.concurrency)

    async def score(text: str) -> float:
        async with slots:
            asked: dict[str, Any] = {"model": model.name, "input": text}
            (found,) = (await service.sent("POST", "/v1/classify", asked))["data"]
        return max(float(found["probs"][place]) for place in places)

    async with service:
        await service.check_version(model.name, model.digest, model.listed)
        return np.array(await together([score(text) for text in texts]))


def bound_of(scores: Array, flags: Sequence[str], alpha: float, confidence: float) -> GuardBound:
    """The section that the scores give; ConfigurationError if too many of them are 1."""
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
