"""Zero-shot classification: the base model is asked about labels that the request names."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.classification.calibration import Calibration, content_free_log_prior
from service.classification.classifier import Asked, Classifier, distributions
from service.classification.frame import PlainFrame, PromptFrame, spell
from service.classification.label import refused, shown
from service.classification.scorer import LabelScorer
from service.common.aio import together
from service.encoders.passages import slots_for
from service.engine.protocol import LabelEngine, Prompt, Tokeniser
from service.engine.text_size import size_of

DEFAULT_INSTRUCTION = "Classify the text."

CONTENT_FREE = ("N/A", "", "[MASK]")
"""The inputs of contextual calibration (Zhao et al. 2021, section 5)."""

_ANSWERS = ("yes", "no")
_TAIL_BYTES = 64
"""Bytes of a chat template after the input, about."""


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
        """The question's text before the input."""
        if self.multi_label:
            return self.instruction
        return f"{self.instruction}\nLabels: {', '.join(self.labels)}"

    @property
    def cue(self) -> str:
        """Beginning of the answer."""
        return "Answer:" if self.multi_label else "Label:"

    @property
    def size(self) -> int:
        """Bytes of its text; tokenised, each takes up to 150 bytes of memory, in rare scripts."""
        around = self.template or ()
        return sum(map(size_of, (self.instruction, *self.labels, *self.labels, *around)))

    @property
    def work(self) -> int:
        """Bytes that building its classifier reads: each label is read after the template's end."""
        tail = size_of(self.template[1]) if self.template else 0
        return 3 * self.size + len(self.labels) * (_TAIL_BYTES + tail)

    @property
    def queries(self) -> tuple[str, ...]:
        """Questions after the input; with several labels a yes-or-no question for each.

        They come after the input, not before it, so that an input's labels share its blocks.
        """
        if not self.multi_label:
            return ("",)
        ask = '\nDoes the label "{}" apply to the text? Answer yes or no.'
        return tuple(ask.format(label) for label in self.labels)


class ZeroShotFrame:
    """The prompts and label tries of a question; implements `classifier.Frame`.

    Tokenises the question once; raises InvalidRequest for labels that cannot be read.
    """

    def __init__(self, engine: Tokeniser, question: Question) -> None:
        for label in question.labels:
            if engine.encode(label) != engine.encode_template(label):
                raise refused(f"label {shown(label)} holds a special token of the model")
        self._frame = (
            PromptFrame(engine, engine.chat_frame, question.text, question.cue)
            if question.template is None
            else PlainFrame(engine, *question.template)
        )
        tail = self._frame.tail
        said = _ANSWERS if question.multi_label else question.labels
        words = [(name, spell(name, tail)) for name in said]
        # A template is the request's own text and holds no special tokens.
        encode = engine.encode if question.template else engine.encode_template
        self._scorer = LabelScorer.build(encode, tail, words, engine.end_token_ids)
        self._queries = question.queries

    @property
    def questions(self) -> Sequence[Asked]:
        """The questions about each input."""
        return [Asked(query, self._scorer) for query in self._queries]

    def prompt(self, text: str, question: Asked) -> Prompt:
        """The prompt after which the question's labels are read."""
        return self._frame.prompt(text, question.after)


def zero_shot(engine: LabelEngine, question: Question) -> Classifier:
    """The classifier of a question to the base model; InvalidRequest as `ZeroShotFrame`."""
    frame = ZeroShotFrame(engine, question)
    return Classifier(engine, frame, question.labels, question.multi_label)


async def calibrated(classifier: Classifier) -> Classifier:
    """The classifier, its prior measured on content-free inputs."""
    slots = asyncio.Semaphore(slots_for(classifier.engine.model.max_num_seqs, len(CONTENT_FREE)))
    answers = await together([classifier.ask(text, slots) for text in CONTENT_FREE])
    rows = np.stack([distributions(answer) for answer in answers])
    return classifier.with_calibration(Calibration(log_prior=content_free_log_prior(rows)))
