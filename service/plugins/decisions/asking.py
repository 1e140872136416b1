"""Asks questions of a language model in its chat template, or of a model with trained labels."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from service.classification.calibration import Array
from service.classification.classifier import Asked, Classifier
from service.classification.encoder import InferenceClassifier, Verdicts
from service.classification.frame import PromptFrame, refused, shown, spell
from service.classification.result import TextClassifier
from service.classification.scorer import LabelScorer
from service.classification.scorer import Score as LabelScore
from service.common.aio import bounded_gather
from service.engine.contract import Adapter
from service.engine.pooling import Pooler
from service.engine.texts import LabelEngine, size_of
from service.errors import InvalidRequest, UnsupportedFeature
from service.plugins.decisions.body import Choice, Level, Option, Predicate, Score

Asking = Predicate | Choice | Score

_TASK = "Read the text and answer the question about it."
_CUE = "Answer:"
_YES_NO = ("yes", "no")


@dataclass(frozen=True, slots=True)
class Decided:
    """The probability of each possible answer, in the question's order, and the tokens read.

    A predicate's answers are yes and no.
    """

    probabilities: Array
    prompt_tokens: int
    cached_tokens: int

    @classmethod
    def of(cls, score: LabelScore) -> "Decided":
        """What a score of labels that exclude each other says."""
        probabilities = np.exp(score.log_probs)
        return cls(probabilities / probabilities.sum(), score.prompt_tokens, score.cached_tokens)


class Decider(Protocol):
    """Answers one question about the input of a request."""

    async def decide(self, question: Asking, place: str) -> Decided:
        """Raises InvalidRequest, naming the `place`, for a question that it cannot answer."""


def words_of(question: Asking) -> tuple[str, ...]:
    """The possible answers, as a model says them."""
    match question:
        case Predicate():
            return _YES_NO
        case Choice(choices=choices):
            return tuple(each.word for each in choices)
        case Score(levels=levels):
            return tuple(each.word for each in levels)


def asked_text(question: Asking) -> str:
    """A question as a language model reads it, after the input."""
    match question:
        case Predicate():
            return f"\n\nQuestion: Is this true? {question.text} (yes or no)"
        case Choice(choices=choices):
            return f"\n\nQuestion: {question.text}\nOne of:\n{_listed(choices)}"
        case Score(levels=levels):
            return f"\n\nQuestion: {question.text}\nLevels, the lowest first:\n{_listed(levels)}"


def _listed(answers: Sequence[Option | Level]) -> str:
    return "\n".join(
        f"- {each.word}: {each.description}" if each.description else f"- {each.word}"
        for each in answers
    )


@dataclass(slots=True)
class ModelDecider:
    """Asks a language model; the trie of the possible answers' tokens gives their probabilities.

    The input comes before the question, so that all questions share its cached prefix.
    """

    engine: LabelEngine
    adapter: Adapter | None
    state: str
    slots: asyncio.Semaphore
    _frame: PromptFrame | None = None
    _scorers: dict[tuple[str, ...], LabelScorer] = field(default_factory=dict)

    async def decide(self, question: Asking, place: str) -> Decided:
        """Reads what the words of the answers need; raises as `Decider`."""
        words = words_of(question)
        size = size_of(question.text) + sum(map(size_of, words))
        try:
            asked = await self.engine.prepare(size, partial(self._asked, question, words))
            classifier = Classifier(self.engine, _Frame(self, asked), words, False, self.adapter)
            return Decided.of(await classifier.score(self.state, self.slots))
        except InvalidRequest as error:
            if error.param != "candidate_labels":
                raise
            message = error.message.removeprefix("candidate_labels: ")
            raise InvalidRequest(f"{place}: {message}", param="questions") from error

    def _asked(self, question: Asking, words: tuple[str, ...]) -> Asked:
        scorer = self._scorers.get(words)
        if scorer is None:
            for word in words:
                if self.engine.encode(word) != self.engine.encode_template(word):
                    raise refused(f"label {shown(word)} holds a special token of the model")
            tail = self.frame.tail
            said = [(word, spell(word, tail)) for word in words]
            ends = self.engine.end_token_ids
            scorer = LabelScorer(self.engine.encode_template, tail, said, ends)
            self._scorers[words] = scorer
        return Asked(asked_text(question), scorer)

    @property
    def frame(self) -> PromptFrame:
        """The chat template around the input, tokenised once."""
        if self._frame is None:
            self._frame = PromptFrame(self.engine, self.engine.chat_frame, _TASK, _CUE)
        return self._frame


class _Frame:
    """One question; implements `classifier.Frame`."""

    def __init__(self, decider: ModelDecider, asked: Asked) -> None:
        self._decider = decider
        self.questions: Sequence[Asked] = (asked,)

    def prompt(self, text: str, question: Asked) -> list[int]:
        return self._decider.frame.prompt(text, question.after)


@dataclass(slots=True)
class LabelDecider:
    """Asks a model for its own labels: an adapter that classifies, or an encoder's trained head.

    It answers choices among these labels by their calibrated probabilities, and ignores the
    choice's instructions.
    """

    classifier: TextClassifier
    state: str
    slots: asyncio.Semaphore
    _score: LabelScore | None = None

    async def decide(self, question: Asking, place: str) -> Decided:
        """Reads the input once, for all questions; raises as `Decider`."""
        names = self.classifier.names
        if not isinstance(question, Choice) or self.classifier.multi_label:
            raise UnsupportedFeature(
                f"{place}: this model has labels of its own and answers choices among them",
                param="questions",
            )
        for index, word in enumerate(words_of(question)):
            if word not in names:
                raise InvalidRequest(
                    f"{place}.choices[{index}].value: must be a label of this model, "
                    f"got {shown(word)}",
                    param="questions",
                )
        score, first = self._score, self._score is None
        if score is None:  # the first question is asked before the others
            score = self._score = await self.classifier.score(self.state, self.slots)
        chosen = np.exp(score.log_probs[[names.index(word) for word in words_of(question)]])
        tokens = (score.prompt_tokens, score.cached_tokens) if first else (0, 0)
        return Decided(chosen / chosen.sum(), *tokens)


@dataclass(frozen=True, slots=True)
class InferenceDecider:
    """Asks an encoder that was trained for inference (NLI): each answer is a hypothesis."""

    pooler: Pooler
    verdicts: Verdicts
    state: str
    slots: asyncio.Semaphore

    async def decide(self, question: Asking, place: str) -> Decided:
        """Reads a pair for each answer, for a predicate one."""
        alone = isinstance(question, Predicate)
        said = [""] if alone else [f" {word}" for word in words_of(question)]
        names = tuple(f"{question.text}{each}" for each in said)
        classifier = InferenceClassifier(self.pooler, self.verdicts, names, "{}", multi_label=alone)
        score = await classifier.score(self.state, self.slots)
        if not alone:
            return Decided.of(score)
        yes = float(np.exp(score.log_probs[0]))
        found = np.array([yes, 1 - yes])
        return Decided(found, score.prompt_tokens, score.cached_tokens)


async def decide_all(decider: Decider, questions: Sequence[Asking], most: int) -> list[Decided]:
    """The answers to all questions, in their order, `most` asked at one time."""

    async def one(numbered: tuple[int, Asking]) -> Decided:
        number, question = numbered
        return await decider.decide(question, f"questions[{number}]")

    # The first fills the cache with the input's prefix, which all others share.
    first = await one((0, questions[0]))
    rest = list(enumerate(questions))[1:]
    return [first, *(await bounded_gather(one, rest, most) if rest else ())]
