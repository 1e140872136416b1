"""Classification by an adapter: its own template, labels and calibration."""

import asyncio
from collections.abc import Sequence

import numpy as np

from service.adapters.manifest import INPUT, ClassificationManifest
from service.classification.calibration import Calibration
from service.classification.distribution import Array
from service.classification.result import Classification, ResultOptions, assemble
from service.classification.scorer import LabelScorer, Score
from service.classification.together import together
from service.engine.protocol import Adapter, Engine, Prompt

YES_NO = (("yes", " yes"), ("no", " no"))
"""What a multi_label adapter says of each label."""


class AdapterClassifier:
    """A classification adapter, ready to score inputs; implements `classifier.Classifier`.

    One label of a set: the labels' words are read right after the template. `multi_label`: of
    each label by itself, after the template, the label's words and a question mark, " yes" or
    " no" is read; the labels of an input share its prompt's cached blocks.

    The template may hold special tokens of the model; an input never does: text in it that looks
    like one stays text. Raises InvalidRequest for labels that cannot be read after the template.
    """

    def __init__(self, engine: Engine, adapter: Adapter, manifest: ClassificationManifest) -> None:
        self._engine = engine
        self._adapter = adapter
        self._prefix, self._suffix = manifest.prompt.template.split(INPUT)
        task = manifest.classification
        self.names = tuple(task.labels)
        self.multi_label = task.multi_label
        self._calibration = Calibration(
            task.calibration.temperature, _log_prior(task.calibration.prior, task.multi_label)
        )
        conformal = task.calibration.conformal
        # The manifest holds the quantile of 1 - p, the result wants the least p.
        self.conformal_threshold = None if conformal is None else 1 - conformal.threshold
        asked = [f"{words}?" for words in task.labels.values()] if task.multi_label else [""]
        words = YES_NO if task.multi_label else tuple(task.labels.items())
        self._questions: Sequence[tuple[str, LabelScorer]] = [
            (ask, self._scorer(self._suffix + ask, words)) for ask in asked
        ]

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        answers = await together(
            [self._ask(text, ask, scorer, slots) for ask, scorer in self._questions]
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

    async def _ask(
        self, text: str, ask: str, scorer: LabelScorer, slots: asyncio.Semaphore
    ) -> Score:
        prompt = await self._prompt(text, ask)
        return await scorer.score(self._engine, prompt, self._adapter, slots)

    async def _prompt(self, text: str, ask: str) -> Prompt:
        engine = self._engine
        after = self._suffix + ask
        if engine.encode(text) == engine.encode_template(text):
            # As one text: the tokens that the adapter was trained on.
            return await engine.render(f"{self._prefix}{text}{after}")
        before = [*engine.start_token_ids, *engine.encode_template(self._prefix)]
        return Prompt([*before, *engine.encode(text), *engine.encode_template(after)])

    def _scorer(self, tail: str, words: Sequence[tuple[str, str]]) -> LabelScorer:
        engine = self._engine
        return LabelScorer.build(engine.encode_template, tail, words, engine.end_token_ids)


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
