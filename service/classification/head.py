"""Classification by an encoder with a trained head: one read for each input, without a prompt."""

import asyncio
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from service.classification.calibration import Array, Calibration, label_log_probs, normalise
from service.classification.scorer import Score
from service.encoders.passages import placed
from service.engine.conformal_sets import ConformalSets
from service.engine.pooling import GuardThreshold, Pooled, Pooler
from service.engine.reference import Reference
from service.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class HeadClassifier:
    """The labels of an encoder's head; implements `batch.TextClassifier`.

    Longer inputs than the encoder's context are cut if `truncate`, else refused.
    """

    pooler: Pooler
    truncate: bool = False
    reads: int = 1

    @property
    def names(self) -> tuple[str, ...]:
        """The labels in the order of a score's log-probabilities."""
        return self.pooler.info.labels

    @property
    def multi_label(self) -> bool:
        """True if each label applies by itself."""
        return self.pooler.info.multi_label

    @property
    def conformal(self) -> ConformalSets | None:
        """The label sets that the head's manifest promises."""
        return self.pooler.info.conformal

    @property
    def guard(self) -> GuardThreshold | None:
        """The threshold of a guard that the head's manifest has."""
        return self.pooler.info.guard

    @property
    def reference(self) -> Reference | None:
        """Typical inputs, which the head's manifest has counted."""
        return self.pooler.info.reference

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        """The calibrated log-probabilities of one input's labels; raises what `Pooler` raises."""
        pooled = await self.ask(text, slots)
        calibration = Calibration(self.pooler.info.temperature)
        rows = calibration.apply(answer_rows(pooled.values, multi_label=self.multi_label))
        return Score(
            log_probs=label_log_probs(rows, multi_label=self.multi_label),
            prompt_tokens=pooled.prompt_tokens,
            cached_tokens=pooled.cached_tokens,
            reads=self.reads,
        )

    async def ask(self, text: str, slots: asyncio.Semaphore) -> Pooled:
        """The head's own values of one input; raises what `Pooler` raises."""
        async with slots:
            try:
                passage = await self.pooler.read(text, truncate=self.truncate)
            except InvalidRequest as error:
                raise placed(error, "input") from error
            return await self.pooler.pool(passage)


def answer_rows(values: npt.NDArray[np.float32], *, multi_label: bool) -> Array:
    """Log-probabilities from a head's values, one a label.

    The shape is [1, labels]; with `multi_label` [labels, 2], the yes and the no of each label.
    """
    logits = values.astype(np.float64)
    if not multi_label:
        return normalise(logits)[None]
    rows: Array = -np.logaddexp(0.0, np.stack([-logits, logits], axis=1))
    return rows
