"""Classification by an encoder with a trained head: one read an input, no prompt."""

import asyncio
from dataclasses import dataclass

import numpy as np

from service.classification.distribution import Array, normalise
from service.classification.scorer import Score
from service.encoders.passages import placed
from service.engine.pooling import Pooler
from service.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class HeadClassifier:
    """The labels of an encoder's head; implements `batch.TextClassifier`.

    Longer inputs than the encoder's context are cut if `truncate`, else refused.
    """

    pooler: Pooler
    truncate: bool = False
    reads: int = 1
    conformal_threshold: float | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The labels in the order of a score's log-probabilities."""
        return self.pooler.info.labels

    @property
    def multi_label(self) -> bool:
        """True if each label applies by itself."""
        return self.pooler.info.multi_label

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        """The log-probabilities of one input's labels; raises what `Pooler` raises."""
        async with slots:
            try:
                passage = await self.pooler.read(text, truncate=self.truncate)
            except InvalidRequest as error:
                raise placed(error, "input") from error
            pooled = await self.pooler.pool(passage)
        logits = pooled.values.astype(np.float64)
        return Score(
            log_probs=_log_sigmoid(logits) if self.multi_label else normalise(logits),
            prompt_tokens=pooled.prompt_tokens,
            cached_tokens=pooled.cached_tokens,
            reads=self.reads,
        )


def _log_sigmoid(logits: Array) -> Array:
    values: Array = -np.logaddexp(0.0, -logits)
    return values
