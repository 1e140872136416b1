"""Classification by an adapter: its own template, labels and calibration."""

import asyncio
from collections.abc import Sequence
from functools import partial

import numpy as np

from service.adapters.manifest import ClassificationManifest
from service.classification.adapter_frame import AdapterFrame, AdapterQuestion
from service.classification.calibration import Calibration
from service.classification.distribution import Array
from service.classification.input_text import check_length, written
from service.classification.result import Classification, ResultOptions, assemble
from service.classification.scorer import Score
from service.engine.protocol import Adapter, Engine
from service.together import together


class AdapterClassifier:
    """A classification adapter, ready to score inputs; implements `classifier.Classifier`.

    It asks what its `AdapterFrame` holds; the labels of a multi_label input share its prompt's
    cached blocks. Without an adapter the base is asked the same. Raises InvalidRequest for labels
    that cannot be read after the template.
    """

    def __init__(
        self, engine: Engine, adapter: Adapter | None, manifest: ClassificationManifest
    ) -> None:
        self._engine = engine
        self._adapter = adapter
        task = manifest.classification
        self._frame = AdapterFrame(engine, manifest.prompt, task)
        self.names = tuple(task.labels)
        self.reads = sum(len(question.scorer.trie.reads) for question in self._frame.questions)
        self.multi_label = task.multi_label
        self._calibration = Calibration(
            task.calibration.temperature, _log_prior(task.calibration.prior, task.multi_label)
        )
        conformal = task.calibration.conformal
        # The manifest holds the quantile of 1 - p, the result wants the least p.
        self.conformal_threshold = None if conformal is None else 1 - conformal.threshold

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        await check_length(text, self._engine)
        answers = await together(
            [self._ask(text, question, slots) for question in self._frame.questions]
        )
        rows = self._calibration.apply(np.stack([answer.log_probs for answer in answers]))
        return Score(
            log_probs=rows[:, 0] if self.multi_label else rows[0],
            prompt_tokens=sum(answer.prompt_tokens for answer in answers),
            cached_tokens=sum(answer.cached_tokens for answer in answers),
            reads=sum(answer.reads for answer in answers),
        )

    async def classify(self, text: str) -> Classification:
        """The whole answer for one input, as `/v1/classify` gives it without further options."""
        score = await self.score(text, asyncio.Semaphore(self._engine.model.max_num_seqs))
        options = ResultOptions(
            multi_label=self.multi_label, conformal_threshold=self.conformal_threshold
        )
        return assemble(self.names, score.log_probs, options)

    async def _ask(self, text: str, question: AdapterQuestion, slots: asyncio.Semaphore) -> Score:
        write = partial(self._frame.prompt, question=question)
        if not self.multi_label:
            prompt = await written(self._engine, text, write)
            return await question.scorer.score(self._engine, prompt, self._adapter, slots)
        # The slot comes first: tokenising hundreds of prompts at once would hold up all others.
        async with slots:
            prompt = await written(self._engine, text, write)
            return await question.scorer.score(self._engine, prompt, self._adapter)


def _log_prior(prior: Sequence[float] | None, multi_label: bool) -> Array | None:
    if prior is None:
        return None
    yes = np.array(prior)
    if not multi_label:
        log_prior: Array = np.log(yes)
        return log_prior
    # A prior of 1 would leave nothing to divide the no by.
    columns: Array = np.log(np.stack([yes, np.maximum(1 - yes, 1e-6)], axis=1))
    return columns
