"""Classification by encoders: by a trained head, or zero-shot by natural language inference."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from service.classification.calibration import Array, Calibration, label_log_probs, normalise
from service.classification.scorer import Score, calibrate
from service.common.aio import bounded_gather
from service.encoders import add_place
from service.engine.contract import Pooled
from service.engine.pooling import EncoderInfo, Pooler
from service.errors import InvalidRequest


async def _pool(
    pooler: Pooler,
    text: str,
    second: str | None,
    slots: asyncio.Semaphore,
    truncate: bool | None,
) -> Pooled:
    async with slots:
        try:
            most = pooler.info.most_tokens(truncate)
            passage = await pooler.read(text, second, most=most)
        except InvalidRequest as error:
            raise add_place(error, "input") from error
        return await pooler.pool(passage)


class HeadClassifier:
    """The labels of an encoder's head; implements `result.TextClassifier`.

    Inputs longer than the encoder's context are cut if `truncate` is true and refused if it is
    false; if it is None, the encoder's setting decides.
    """

    reads = 1

    def __init__(self, pooler: Pooler, *, truncate: bool | None = None) -> None:
        info = pooler.info
        self.names, self.multi_label = info.labels, info.multi_label
        self.conformal, self.guard, self.reference = info.conformal, info.guard, info.reference
        self._calibration = Calibration(info.temperature)
        self._pooler = pooler
        self._truncate = truncate

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        """The calibrated log-probabilities of one input's labels; raises what `Pooler` raises."""
        pooled = await self.ask(text, slots)
        rows = answer_rows(pooled.values, multi_label=self.multi_label)
        return calibrate([pooled], rows, self._calibration, multi_label=self.multi_label)

    async def ask(self, text: str, slots: asyncio.Semaphore) -> Pooled:
        """The head's own values of one input; raises what `Pooler` raises."""
        return await _pool(self._pooler, text, None, slots, self._truncate)


def answer_rows(values: npt.NDArray[np.float32], *, multi_label: bool) -> Array:
    """Log-probabilities from a head's values, of which there is one for each label.

    The shape is [1, labels]; with `multi_label` [labels, 2], the yes and the no of each label.
    """
    logits = values.astype(np.float64)
    if not multi_label:
        return normalise(logits)[None]
    rows: Array = -np.logaddexp(0.0, np.stack([-logits, logits], axis=1))
    return rows


DEFAULT_HYPOTHESIS = "This example is {}."


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Indices of entailment and contradiction among the labels of a head trained for NLI."""

    entails: int
    contradicts: int

    @classmethod
    def of(cls, labels: Sequence[str]) -> "Verdicts | None":
        """Find the indices among a head's labels; None for a head trained for something else."""
        names = [label.lower().replace("-", "_").replace(" ", "_") for label in labels]
        entails = [place for place, name in enumerate(names) if name.startswith("entail")]
        others = [
            place
            for place, name in enumerate(names)
            if name.startswith(("contradict", "not_entail"))
        ]
        if len(entails) != 1 or len(others) != 1:
            return None
        return cls(entails[0], others[0])


@dataclass(frozen=True, slots=True)
class InferenceClassifier:
    """A request's labels, each as a hypothesis about the text, as in transformers' pipeline.

    Implements `result.TextClassifier`. Labels that exclude each other share one distribution over
    their logits of entailment. With `multi_label` each label has its own, of entailment against
    contradiction. `template` holds `{}` once, for the label. If a pair is cut (`truncate`, as in a
    `HeadClassifier`), the longer text loses its end first.
    """

    pooler: Pooler
    verdicts: Verdicts
    names: tuple[str, ...]
    template: str = DEFAULT_HYPOTHESIS
    multi_label: bool = False
    truncate: bool | None = None
    conformal: None = None
    guard: None = None
    reference: None = None

    @property
    def reads(self) -> int:
        """Engine requests that an input takes."""
        return len(self.names)

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        """The log-probabilities of one input's labels, with the temperature of the encoder's head.

        Raises what `Pooler` raises.
        """
        ask = partial(self._read, text, slots)
        read = await bounded_gather(ask, self.names, self.pooler.info.max_num_seqs)
        rows = self._rows(np.stack([each.values for each in read]))
        calibration = Calibration(self.pooler.info.temperature)
        return calibrate(read, rows, calibration, multi_label=self.multi_label)

    async def _read(self, text: str, slots: asyncio.Semaphore, label: str) -> Pooled:
        hypothesis = self.template.replace("{}", label)
        return await _pool(self.pooler, text, hypothesis, slots, self.truncate)

    def _rows(self, values: Array) -> Array:
        """Answer logits from a head's values for each label's hypothesis, [labels, verdicts].

        The shape is [1, labels]; with `multi_label` [labels, 2], the yes and the no of each label.
        """
        logits = values.astype(np.float64)
        entails: Array = logits[:, self.verdicts.entails]
        if not self.multi_label:
            return entails[None]
        return np.stack([entails, logits[:, self.verdicts.contradicts]], axis=1)


def predictions(pooled: Pooled, info: EncoderInfo, *, raw: bool) -> list[tuple[str, float]]:
    """Each label of the head with its probability, or with its logit if `raw`."""
    scores = pooled.values.astype(np.float64)
    if not raw:
        rows = answer_rows(pooled.values, multi_label=info.multi_label)
        scores = np.exp(label_log_probs(rows, multi_label=info.multi_label))
    order = np.argsort(-scores, kind="stable")
    return [(info.labels[index], float(scores[index])) for index in order]
