"""Classifier: a label set ready to score inputs, of the base model or of an adapter."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from service.classification.calibration import Array, Calibration, label_log_probs
from service.classification.frame import check_length, written
from service.classification.scorer import LabelScorer, Score
from service.common.aio import few_at_once
from service.engine.conformal_sets import ConformalSets
from service.engine.pooling import GuardThreshold
from service.engine.protocol import Adapter, LabelEngine, Prompt
from service.engine.reference import Reference

_UNCALIBRATED = Calibration()


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """One question about every input: the text after the input, and the labels read after that."""

    after: str
    scorer: LabelScorer


class Frame(Protocol):
    """Prompts of a label set: one question, or a yes-or-no question for each label."""

    @property
    def questions(self) -> Sequence[Asked]: ...

    def prompt(self, text: str, question: Asked) -> Prompt:
        """The prompt after which the question's labels are read."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A label set ready to score inputs; without an adapter the base model is asked.

    `names` are the labels in the order of a score's log-probabilities. With `multi_label` these are
    log P(yes) of independent questions, not one distribution; the questions share the cached blocks
    of the input's prompt. `conformal`, `guard` and `reference` are as in `batch.TextClassifier`.
    """

    engine: LabelEngine
    frame: Frame
    names: tuple[str, ...]
    multi_label: bool
    adapter: Adapter | None = None
    calibration: Calibration = _UNCALIBRATED
    conformal: ConformalSets | None = None
    guard: GuardThreshold | None = None
    reference: Reference | None = None

    @property
    def reads(self) -> int:
        """Engine requests that one input takes."""
        return sum(question.scorer.reads for question in self.frame.questions)

    def with_calibration(self, calibration: Calibration) -> "Classifier":
        """This classifier with another calibration."""
        return replace(self, calibration=calibration)

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        """The calibrated log-probabilities of one input.

        `slots` bounds the reads that one request has at the gate. Raises InvalidRequest for an
        input too long, and what `Reader.label_logprobs` raises.
        """
        await check_length(text, self.engine)
        answers = await self.ask(text, slots)
        rows = self.calibration.apply(distributions(answers))
        return Score(
            log_probs=label_log_probs(rows, multi_label=self.multi_label),
            prompt_tokens=sum(answer.prompt_tokens for answer in answers),
            cached_tokens=sum(answer.cached_tokens for answer in answers),
            reads=sum(answer.reads for answer in answers),
        )

    async def ask(self, text: str, slots: asyncio.Semaphore) -> Sequence[Score]:
        """The uncalibrated answer to each question."""
        if self.multi_label:
            ask = partial(self._ask_one, text, slots)
            return await few_at_once(ask, self.frame.questions, self.engine.model.max_num_seqs)
        (question,) = self.frame.questions
        prompt = await self._prompt(text, question)
        return [await question.scorer.score(self.engine, prompt, self.adapter, slots)]

    async def _ask_one(self, text: str, slots: asyncio.Semaphore, question: Asked) -> Score:
        # Take the slot first: tokenising hundreds of prompts at once would delay all others.
        async with slots:
            prompt = await self._prompt(text, question)
            return await question.scorer.score(self.engine, prompt, self.adapter)

    async def _prompt(self, text: str, question: Asked) -> Prompt:
        return await written(self.engine, text, partial(self.frame.prompt, question=question))


def distributions(answers: Sequence[Score]) -> Array:
    """The log-probabilities of the questions' labels, [questions, labels]."""
    return np.stack([answer.log_probs for answer in answers])
