"""Asks questions of a language model in its chat template, or of a model with trained labels."""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import numpy as np

from service.adapters.decisions import AskingRecord, DecisionsRecord
from service.classification.calibration import Array, content_free_log_prior, normalise
from service.classification.classifier import CONTENT_FREE, CacheEntry, TenantCache
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
from service.common.aio import bounded_gather, gather
from service.engine.contract import Adapter
from service.engine.pooling import ConformalSets, Pooler
from service.engine.texts import LabelEngine, size_of
from service.errors import InvalidRequest, QueueFull, TooManyRequests, UnsupportedFeature
from service.plugins.decisions.body import Asking, Choice, Predicate, answers_of
from service.plugins.decisions.wording import CUE, LEAD, TASK, Wording, wordings

_FEW = 4
"""Questions of a request that are asked at one time while the engine is crowded."""
_FULL = frozenset(("queue_full", "over_share"))
"""Codes of refusals that end when others of the same tenant end."""


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

    @property
    def best(self) -> int:
        """The place of the most likely answer."""
        return int(self.probabilities.argmax())

    @property
    def confidence(self) -> float:
        """The probability of the most likely answer."""
        return float(self.probabilities.max())

    @property
    def mean(self) -> float:
        """The mean of the answers' places, weighted by their probabilities."""
        return float(np.arange(len(self.probabilities)) @ self.probabilities)


class Decider(Protocol):
    """Answers one question about the input of a request."""

    async def decide(self, question: Asking, place: str) -> Decided:
        """Raises InvalidRequest, naming the `place`, for a question that it cannot answer."""


@dataclass(frozen=True, slots=True)
class _Way:
    """One wording of a question as tokens after the input, and the scorer of its words."""

    rest: list[int]
    scorer: LabelScorer


@dataclass(slots=True)
class _Kept(CacheEntry):
    """What was made of a wording: its tokens, and the log-prior of its words if it was needed."""

    way: _Way | None = None
    log_prior: Array | None = None

    @property
    def filled(self) -> bool:
        return self.way is not None


class QuestionWriter:
    """Writes questions in a model's chat template, and keeps those that were asked lately."""

    def __init__(self, engine: LabelEngine, task: str = TASK) -> None:
        self.engine = engine
        self._frame = PromptFrame(engine, engine.chat_frame, task, CUE)
        # Tokenizers join two newlines in ways that depend on what is before them.
        self._boundary = TokenBoundary.find(engine.encode, LEAD[1:])
        self._kept = TenantCache[tuple[Wording, int | None], _Kept]()

    async def begin(self, state: str) -> list[int]:
        """The tokens of the input, with which the prompts of all questions about it begin."""
        await check_length(state, self.engine)
        work = partial(self._frame.begin, state, LEAD)
        return await self.engine.prepare_prompt(size_of(state), work)

    async def ask(
        self, begun: list[int], wording: Wording, adapter: Adapter | None, slots: asyncio.Semaphore
    ) -> LabelScore:
        """The log-probabilities of the wording's words; InvalidRequest for unreadable ones."""
        way = (await self._entry(wording, adapter, prior=False)).way
        assert way is not None
        return await way.scorer.score(self.engine, [*begun, *way.rest], adapter, slots)

    async def log_prior(self, wording: Wording, adapter: Adapter | None) -> Array:
        """The log-probabilities of the words without an input (`content_free_log_prior`)."""
        found = (await self._entry(wording, adapter, prior=True)).log_prior
        assert found is not None
        return found

    async def _entry(self, wording: Wording, adapter: Adapter | None, *, prior: bool) -> _Kept:
        """What is kept of a wording, made by one of the requests that need it."""
        # Another version of an adapter has another prior.
        key = (wording, None if adapter is None else adapter.engine_id)
        size = size_of(wording.text) + sum(map(size_of, wording.words))
        kept = self._kept.entry(key, size, _Kept)
        if kept.way is not None and (kept.log_prior is not None or not prior):
            return kept
        async with self._kept.filling(key, kept):
            if kept.way is None:
                kept.way = await self.engine.prepare(size, partial(self._written, wording))
            if prior and kept.log_prior is None:
                kept.log_prior = await self._measured(kept.way, adapter)
            return kept

    def _written(self, wording: Wording) -> _Way:
        engine, tail = self.engine, self._frame.tail
        for word in wording.words:
            if engine.encode(word) != engine.encode_template(word):
                raise refused(f"label {shown(word)} holds a special token of the model")
        said = [(word, spell(word, tail)) for word in wording.words]
        scorer = LabelScorer(engine.encode_template, tail, said, engine.end_token_ids)
        return _Way(self._frame.finish(self._boundary, wording.text), scorer)

    async def _measured(self, way: _Way, adapter: Adapter | None) -> Array:
        async def one(text: str) -> LabelScore:
            prompt = [*self._frame.begin(text, LEAD), *way.rest]
            return await way.scorer.score(self.engine, prompt, adapter)

        scores = await gather([one(text) for text in CONTENT_FREE])
        return content_free_log_prior(np.stack([each.log_probs for each in scores]))


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
        fitted = self.how.of(question.type)
        asked = wordings(question, fitted)
        rows = np.empty((len(asked), len(asked[0].order)))
        try:
            scores = await bounded_gather(self._read, asked, len(asked))
            for row, wording, score in zip(rows, asked, scores, strict=True):
                found = score.log_probs
                if fitted.prior:
                    found = found - await self.writer.log_prior(wording, self.adapter)
                row[list(wording.order)] = found
        except InvalidRequest as error:
            if error.param != "candidate_labels":
                raise
            message = error.message.removeprefix("candidate_labels: ")
            raise InvalidRequest(f"{place}: {message}", param="questions") from error
        probabilities = calibrated(rows.mean(axis=0), question, fitted)
        least = fitted.refuse_below
        return Decided(
            probabilities,
            sum(each.prompt_tokens for each in scores),
            sum(each.cached_tokens for each in scores),
            sure=least is None or float(probabilities.max()) >= least,
            mass=scores[0].mass,
            begins=scores[0].begins,
        )

    async def _read(self, wording: Wording) -> LabelScore:
        return await self.writer.ask(self._begun, wording, self.adapter, self.slots)


def calibrated(log_probs: Array, question: Asking, fitted: AskingRecord) -> Array:
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


async def decide_all(
    decider: Decider, questions: Sequence[Asking], most: int, crowded: Callable[[], bool]
) -> list[Decided]:
    """The answers to all questions, in their order, `most` asked at one time.

    While the engine is crowded only a few are asked, so that one request does not fill the queue. A
    request whose first question was admitted is answered whole: where the queue has no place for
    another one, that waits until one of those that are asked has ended.
    """
    together = _Together(crowded)

    async def one(numbered: tuple[int, Asking]) -> Decided:
        number, question = numbered
        return await together.ask(partial(decider.decide, question, f"questions[{number}]"))

    # The first fills the cache with the input's prefix, which all others share.
    first = await one((0, questions[0]))
    rest = list(enumerate(questions))[1:]
    return [first, *(await bounded_gather(one, rest, most) if rest else ())]


class _Together:
    """The questions of a request that are asked now, and those that wait for one of them.

    Their number begins with a few and grows by one with each answer, like a window of TCP, until
    the engine is crowded.
    """

    def __init__(self, crowded: Callable[[], bool]) -> None:
        self._crowded = crowded
        self._asked = 0
        self._most = _FEW
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def ask(self, ask: Callable[[], Coroutine[Any, Any, Decided]]) -> Decided:
        """Ask, and again where the queue is full; raises its refusal if no other is asked."""
        while True:
            while self._asked >= self._most:
                turn = asyncio.get_running_loop().create_future()
                self._waiting.append(turn)
                await turn
            self._asked += 1
            try:
                found = await ask()
                self._most = _FEW if self._crowded() else self._most + 1
                return found
            except (QueueFull, TooManyRequests) as refusal:
                if self._asked == 1 or refusal.code not in _FULL:
                    raise
                self._most = self._asked - 1
            finally:
                self._asked -= 1
                self._wake()

    def _wake(self) -> None:
        """Let as many ask as there is room for."""
        for _ in range(self._most - self._asked):
            if self._waiting and not (turn := self._waiting.popleft()).done():
                turn.set_result(None)
