"""Classifier of a route: the base model with a question, or an adapter with its labels."""

import asyncio
from typing import Protocol

from service.classification.scorer import Score


class Classifier(Protocol):
    """A label set ready to score inputs.

    `names` are the labels in the order of a score's log-probabilities. `multi_label`: these are
    log P(yes) of independent questions, not one distribution. `conformal_threshold`: see
    `ResultOptions`.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def reads(self) -> int:
        """Engine requests that one input takes."""

    @property
    def multi_label(self) -> bool: ...

    @property
    def conformal_threshold(self) -> float | None: ...

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        """The calibrated log-probabilities of one input.

        `slots` bounds the reads that one request has at the gate. Raises InvalidRequest for an
        input too long, and what `Engine.label_logprobs` raises.
        """
