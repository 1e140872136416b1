"""Asks questions of a language model in its chat template, or of a model with trained labels."""

import asyncio
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

import numpy as np

from service.adapters.decisions import DecisionCalibration, DecisionsRecord
from service.classification.calibration import Array, normalise
from service.classification.conformal import label_sets
from service.classification.encoder import InferenceClassifier, Verdicts
from service.classification.frame import (
    PromptFrame,
    TokenBoundary,
    check_length,
    refused,
    shown,
    spell,
)
from service.classification.result import TextClassifier
from service.classification.scorer import LabelScorer
from service.classification.scorer import Score as LabelScore
from service.common.aio import bounded_gather
from service.engine.contract import Adapter
from service.engine.pooling import ConformalSets, Pooler
from service.engine.texts import LabelEngine, size_of
from service.errors import InvalidRequest, UnsupportedFeature
from service.plugins.decisions.body import Choice, Predicate
from service.plugins.decisions.wording import (
    CUE,
    LEAD,
    TASK,
    Asking,
    Wording,
    answers_of,
    wordings,
)

_KEPT_BYTES = 1 << 18
"""Bytes of the answers whose scorers are kept."""


@dataclass(frozen=True, slots=True)
class Decided:
    """The probability of each possible answer, in the question's order, and the tokens read.

    `sure` is false for an answer that the model's calibration does not single out. `mass` and
    `begins` are as in `scorer.Score`.
    """

    probabilities: Array
    prompt_tokens: int
    cached_tokens: int
    sure: bool = True
    mass: float = 1.0
    begins: bool = True


class Decider(Protocol):
    """Answers one question about the input of a request."""

    async def decide(self, question: Asking, place: str) -> Decided:
        """Raises InvalidRequest, naming the `place`, for a question that it cannot answer."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One wording of a question as tokens after the input, and the scorer of its words."""

    rest: list[int]
    scorer: LabelScorer
    order: tuple[int, ...]


class QuestionWriter:
    """Writes questions in a model's chat template, tokenised once.

    Scorers of answers that were read lately are kept, since most questions come again.
    """

    def __init__(self, engine: LabelEngine, task: str = TASK) -> None:
        self.engine = engine
        self._frame = PromptFrame(engine, engine.chat_frame, task, CUE)
        self._begun = TokenBoundary.find(engine.encode, LEAD)
        self._scorers: OrderedDict[tuple[str, ...], LabelScorer] = OrderedDict()
        self._bytes = 0

    async def begin(self, state: str) -> list[int]:
        """The tokens of the input, with which the prompts of all questions about it begin."""
        await check_length(state, self.engine)
        work = partial(self._frame.begin, state, LEAD)
        return await self.engine.prepare_prompt(size_of(state), work)

    async def write(self, question: Asking, how: DecisionsRecord) -> list[_Way]:
        """All wordings of a question; InvalidRequest for answers that cannot be read."""
        asked = wordings(question, how)
        size = sum(size_of(each.text) + sum(map(size_of, each.words)) for each in asked)
        known = {each.words: self._scorers.get(each.words) for each in asked}
        ways = await self.engine.prepare(size, partial(self._ways, asked, known))
        for each in ways:
            self._keep(each.scorer)
        return ways

    def _ways(
        self, asked: Sequence[Wording], known: dict[tuple[str, ...], LabelScorer | None]
    ) -> list[_Way]:
        return [
            _Way(
                self._frame.finish(self._begun, each.text),
                known[each.words] or self._scorer(each.words),
                each.order,
            )
            for each in asked
        ]

    def _scorer(self, words: tuple[str, ...]) -> LabelScorer:
        engine, tail = self.engine, self._frame.tail
        for word in words:
            if engine.encode(word) != engine.encode_template(word):
                raise refused(f"label {shown(word)} holds a special token of the model")
        said = [(word, spell(word, tail)) for word in words]
        return LabelScorer(engine.encode_template, tail, said, engine.end_token_ids)

    def _keep(self, scorer: LabelScorer) -> None:
        words = scorer.trie.names
        if words in self._scorers:
            self._scorers.move_to_end(words)
            return
        self._scorers[words] = scorer
        self._bytes += sum(map(size_of, words))
        while self._bytes > _KEPT_BYTES:
            dropped, _ = self._scorers.popitem(last=False)
            self._bytes -= sum(map(size_of, dropped))


@dataclass(slots=True)
class ModelDecider:
    """Asks a language model; the trie of the possible answers' tokens gives their probabilities.

    The input comes before the question, so that all questions share its cached prefix.
    """

    writer: QuestionWriter
    adapter: Adapter | None
    how: DecisionsRecord
    state: str
    slots: asyncio.Semaphore
    _begun: list[int] = field(default_factory=list)

    async def decide(self, question: Asking, place: str) -> Decided:
        """Reads what the words of the answers need; raises as `Decider`."""
        if not self._begun:
            self._begun = await self.writer.begin(self.state)
        try:
            ways = await self.writer.write(question, self.how)
        except InvalidRequest as error:
            message = error.message.removeprefix("candidate_labels: ")
            raise InvalidRequest(f"{place}: {message}", param="questions") from error
        scores = await bounded_gather(self._read, ways, len(ways))
        rows = np.empty((len(ways), len(ways[0].order)))
        for row, way, score in zip(rows, ways, scores, strict=True):
            row[list(way.order)] = score.log_probs
        found = calibrated(rows.mean(axis=0), question, self.how.of(question.type))
        least = self.how.of(question.type).refuse_below
        return Decided(
            found,
            sum(each.prompt_tokens for each in scores),
            sum(each.cached_tokens for each in scores),
            sure=least is None or float(found.max()) >= least,
            mass=scores[0].mass,
            begins=scores[0].begins,
        )

    async def _read(self, way: _Way) -> LabelScore:
        prompt = [*self._begun, *way.rest]
        return await way.scorer.score(self.writer.engine, prompt, self.adapter, self.slots)


def calibrated(log_probs: Array, question: Asking, fitted: DecisionCalibration) -> Array:
    """The probabilities of a question's answers, from their averaged log-probabilities."""
    if isinstance(question, Predicate):
        log_probs = log_probs + np.array([fitted.bias, 0.0])
    found: Array = np.exp(normalise(log_probs / fitted.temperature))
    return found


@dataclass(slots=True)
class LabelDecider:
    """Asks a model for its own labels: an adapter that classifies, or an encoder's trained head.

    It answers choices among these labels by their calibrated probabilities, and ignores the
    choice's instructions. It is sure if the conformal `sets` leave one label, which is offered.
    """

    classifier: TextClassifier
    sets: ConformalSets | None
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
        for index, each in enumerate(question.choices):
            if each.word not in names:
                raise InvalidRequest(
                    f"{place}.choices[{index}].value: must be a label of this model, "
                    f"got {shown(each.word)}",
                    param="questions",
                )
        score, first = self._score, self._score is None
        if score is None:  # the first question is asked before the others
            score = self._score = await self.classifier.score(self.state, self.slots)
        every = np.exp(score.log_probs)
        places = [names.index(each.word) for each in question.choices]
        tokens = (score.prompt_tokens, score.cached_tokens) if first else (0, 0)
        sure = True
        if self.sets is not None:
            members = label_sets(every, self.sets.least)
            sure = bool(members.sum() == 1 and members[places].any())
        return Decided(every[places] / every[places].sum(), *tokens, sure=sure)


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
        said = [""] if alone else [f" {each.word}" for each in answers_of(question)]
        names = tuple(f"{question.text}{each}" for each in said)
        classifier = InferenceClassifier(self.pooler, self.verdicts, names, "{}", multi_label=alone)
        score = await classifier.score(self.state, self.slots)
        found = np.exp(score.log_probs)
        if alone:
            found = np.array([found[0], 1 - found[0]])
        return Decided(found / found.sum(), score.prompt_tokens, score.cached_tokens)


async def decide_all(decider: Decider, questions: Sequence[Asking], most: int) -> list[Decided]:
    """The answers to all questions, in their order, `most` asked at one time."""

    async def one(numbered: tuple[int, Asking]) -> Decided:
        number, question = numbered
        return await decider.decide(question, f"questions[{number}]")

    # The first fills the cache with the input's prefix, which all others share.
    first = await one((0, questions[0]))
    rest = list(enumerate(questions))[1:]
    return [first, *(await bounded_gather(one, rest, most) if rest else ())]
