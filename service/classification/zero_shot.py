"""Zero-shot classification: the base model is asked about labels that the request names."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from service.classification.calibration import Calibration, content_free_log_prior
from service.classification.distribution import Array
from service.classification.frame import Frame, PlainFrame, PromptFrame
from service.classification.input_text import check_length, written
from service.classification.label import refused, shown
from service.classification.scorer import LabelScorer, Score, read_slots
from service.classification.seam import spell
from service.engine.protocol import Engine
from service.engine.text_size import size_of
from service.together import together

DEFAULT_INSTRUCTION = "Classify the text."

CONTENT_FREE = ("N/A", "", "[MASK]")
"""The inputs of contextual calibration (Zhao et al. 2021, section 5)."""

_ANSWERS = ("yes", "no")
_TAIL_BYTES = 64
"""Of a chat template after the input, about."""

_UNCALIBRATED = Calibration()


@dataclass(frozen=True, slots=True)
class Question:
    """Question to the base model; equal questions have equal classifiers."""

    instruction: str
    labels: tuple[str, ...]
    multi_label: bool = False
    template: tuple[str, str] | None = None
    """The plain text before and after the input, instead of the chat and the instruction."""

    @property
    def text(self) -> str:
        """The question as it stands before the input."""
        if self.multi_label:
            return self.instruction
        return f"{self.instruction}\nLabels: {', '.join(self.labels)}"

    @property
    def cue(self) -> str:
        """Beginning of the answer."""
        return "Answer:" if self.multi_label else "Label:"

    @property
    def size(self) -> int:
        """Bytes of what it says; tokenised, each takes at most some 64 bytes of memory."""
        around = self.template or ()
        return sum(map(size_of, (self.instruction, *self.labels, *self.labels, *around)))

    @property
    def work(self) -> int:
        """Bytes that building its classifier reads: each label is read after the template's end."""
        tail = size_of(self.template[1]) if self.template else 0
        return 3 * self.size + len(self.labels) * (_TAIL_BYTES + tail)

    @property
    def queries(self) -> tuple[str, ...]:
        """Questions after the input: of several labels each its own yes or no.

        They stand after the input and not before it so that an input's labels share its blocks.
        """
        if not self.multi_label:
            return ("",)
        ask = '\nDoes the label "{}" apply to the text? Answer yes or no.'
        return tuple(ask.format(label) for label in self.labels)


@dataclass(frozen=True, slots=True)
class ZeroShotClassifier:
    """The base model with a question; implements `classifier.Classifier`."""

    engine: Engine
    question: Question
    frame: Frame
    scorer: LabelScorer
    calibration: Calibration = _UNCALIBRATED
    conformal_threshold: None = None

    @classmethod
    def build(cls, engine: Engine, question: Question) -> "ZeroShotClassifier":
        """Tokenise the question once; InvalidRequest for labels that cannot be read."""
        for label in question.labels:
            if engine.encode(label) != engine.encode_template(label):
                raise refused(f"label {shown(label)} holds a special token of the model")
        frame = _frame(engine, question)
        said = _ANSWERS if question.multi_label else question.labels
        words = [(name, spell(name, frame.tail)) for name in said]
        # A template is the request's own text, in which nothing is special.
        encode = engine.encode if question.template else engine.encode_template
        scorer = LabelScorer.build(encode, frame.tail, words, engine.end_token_ids)
        return cls(engine, question, frame, scorer)

    @property
    def names(self) -> tuple[str, ...]:
        return self.question.labels

    @property
    def reads(self) -> int:
        return len(self.question.queries) * len(self.scorer.trie.reads)

    @property
    def multi_label(self) -> bool:
        return self.question.multi_label

    async def calibrated(self) -> "ZeroShotClassifier":
        """This classifier, its prior measured on content-free inputs."""
        slots = asyncio.Semaphore(read_slots(self.engine, len(CONTENT_FREE)))
        answers = await together([self._ask(text, slots) for text in CONTENT_FREE])
        rows = np.stack([_distributions(answer) for answer in answers])
        return replace(self, calibration=Calibration(log_prior=content_free_log_prior(rows)))

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        await check_length(text, self.engine)
        answers = await self._ask(text, slots)
        calibrated = self.calibration.apply(_distributions(answers))
        return Score(
            # Of yes and no the yes; of one question its labels.
            log_probs=calibrated[:, 0] if self.multi_label else calibrated[0],
            prompt_tokens=sum(answer.prompt_tokens for answer in answers),
            cached_tokens=sum(answer.cached_tokens for answer in answers),
            reads=sum(answer.reads for answer in answers),
        )

    async def _ask(self, text: str, slots: asyncio.Semaphore) -> Sequence[Score]:
        if not self.multi_label:
            prompt = await written(self.engine, text, self.frame.prompt)
            # Inputs that come together are all tokenised before the first is sent: their messages
            # leave in one burst and wake the engine once.
            await asyncio.sleep(0)
            return [await self.scorer.score(self.engine, prompt, None, slots)]
        queries = self.question.queries
        return await together([self._ask_one(text, query, slots) for query in queries])

    async def _ask_one(self, text: str, query: str, slots: asyncio.Semaphore) -> Score:
        # The slot comes first: tokenising hundreds of prompts at once would hold up all others.
        async with slots:
            prompt = await written(self.engine, text, partial(self.frame.prompt, query=query))
            return await self.scorer.score(self.engine, prompt)


def _frame(engine: Engine, question: Question) -> Frame:
    if question.template is None:
        return PromptFrame(engine, question.text, question.cue)
    return PlainFrame(engine, *question.template)


def _distributions(answers: Sequence[Score]) -> Array:
    """One row per query of the question."""
    return np.stack([answer.log_probs for answer in answers])
