"""Classifiers: label sets ready to score inputs, also for questions to the base model."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Generic, Protocol, TypeVar

import numpy as np

from service.classification.calibration import (
    Array,
    Calibration,
    content_free_log_prior,
)
from service.classification.frame import (
    PlainFrame,
    PromptFrame,
    check_length,
    refused,
    shown,
    spell,
)
from service.classification.scorer import LabelScorer, Score, calibrate
from service.common.aio import bounded_gather, gather, slots_for
from service.context import current_context
from service.engine.contract import Adapter
from service.engine.pooling import ConformalSets, GuardThreshold, Reference
from service.engine.texts import LabelEngine, size_of
from service.errors import DeadlineExceeded

_UNCALIBRATED = Calibration()


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """A question about every input: the text after the input, and the labels scored after that."""

    after: str
    scorer: LabelScorer


class Frame(Protocol):
    """Prompts of a label set: one question, or a yes-or-no question for each label."""

    @property
    def questions(self) -> Sequence[Asked]: ...

    def prompt(self, text: str, question: Asked) -> list[int]:
        """The prompt that ends where the question's labels are scored."""


@dataclass(frozen=True, slots=True)
class Classifier:
    """A label set ready to score inputs; without an adapter the base model is asked.

    `names` are the labels in the order of a score's log-probabilities. With `multi_label` these are
    log P(yes) of independent questions, not one distribution; the questions share the cached prefix
    of the input's prompt. `conformal`, `guard` and `reference` are as in `result.TextClassifier`.
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
        """Number of engine requests for each input."""
        return sum(question.scorer.reads for question in self.frame.questions)

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        """The calibrated log-probabilities of one input.

        `slots` bounds the reads that one request has admitted or queued. Raises InvalidRequest for
        an input too long, and what `LabelEngine.label_logprobs` raises.
        """
        await check_length(text, self.engine)
        answers = await self.ask(text, slots)
        rows = distributions(answers)
        return calibrate(answers, rows, self.calibration, multi_label=self.multi_label)

    async def ask(self, text: str, slots: asyncio.Semaphore) -> Sequence[Score]:
        """The uncalibrated answer to each question."""
        if self.multi_label:
            ask = partial(self._ask_one, text, slots)
            return await bounded_gather(ask, self.frame.questions, self.engine.model.max_num_seqs)
        (question,) = self.frame.questions
        prompt = await self._prompt(text, question)
        return [await question.scorer.score(self.engine, prompt, self.adapter, slots)]

    async def _ask_one(self, text: str, slots: asyncio.Semaphore, question: Asked) -> Score:
        # Take the slot first: tokenising hundreds of prompts at once would delay all others.
        async with slots:
            prompt = await self._prompt(text, question)
            return await question.scorer.score(self.engine, prompt, self.adapter)

    async def _prompt(self, text: str, question: Asked) -> list[int]:
        write = partial(self.frame.prompt, text, question)
        return await self.engine.prepare_prompt(size_of(text), write)


def distributions(answers: Sequence[Score]) -> Array:
    """The log-probabilities of the questions' labels, [questions, labels]."""
    return np.stack([answer.log_probs for answer in answers])


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
        """Bytes of its text; once tokenised a byte takes up to 150 bytes in rare scripts."""
        around = self.template or ()
        return sum(map(size_of, (self.instruction, *self.labels, *self.labels, *around)))

    @property
    def work(self) -> int:
        """Bytes tokenised to build its classifier: each label together with the template's end."""
        tail = size_of(self.template[1]) if self.template else 0
        return 3 * self.size + len(self.labels) * (_TAIL_BYTES + tail)

    @property
    def queries(self) -> tuple[str, ...]:
        """Questions after the input;

        with several labels a yes-or-no question for each. They come after the input, not before it,
        so that they share the input's cached blocks.
        """
        if not self.multi_label:
            return ("",)
        ask = '\nDoes the label "{}" apply to the text? Answer yes or no.'
        return tuple(ask.format(label) for label in self.labels)


class ZeroShotFrame:
    """The prompts and label tries of a question; implements `classifier.Frame`.

    Tokenises the question once; raises InvalidRequest for labels that cannot be scored.
    """

    def __init__(self, engine: LabelEngine, question: Question) -> None:
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
        self._scorer = LabelScorer(encode, tail, words, engine.end_token_ids)
        self._queries = question.queries

    @property
    def questions(self) -> Sequence[Asked]:
        """The questions about each input."""
        return [Asked(query, self._scorer) for query in self._queries]

    def prompt(self, text: str, question: Asked) -> list[int]:
        """The prompt that ends where the question's labels are scored."""
        return self._frame.prompt(text, question.after)


def zero_shot(engine: LabelEngine, question: Question) -> Classifier:
    """The classifier of a question to the base model; InvalidRequest as `ZeroShotFrame`."""
    frame = ZeroShotFrame(engine, question)
    return Classifier(engine, frame, question.labels, question.multi_label)


async def calibrated(classifier: Classifier) -> Classifier:
    """The classifier, calibrated by its prior, which is measured on content-free inputs."""
    slots = asyncio.Semaphore(slots_for(classifier.engine.model.max_num_seqs, len(CONTENT_FREE)))
    answers = await gather([classifier.ask(text, slots) for text in CONTENT_FREE])
    rows = np.stack([distributions(answer) for answer in answers])
    return replace(classifier, calibration=Calibration(log_prior=content_free_log_prior(rows)))


@dataclass(slots=True)
class CacheEntry:
    """What requests fill one at a time; `filled` once it is worth keeping."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def filled(self) -> bool:
        """False for an entry to forget."""
        raise NotImplementedError


Key = TypeVar("Key", bound=Hashable)
Entry = TypeVar("Entry", bound=CacheEntry)

CAPACITY = 1 << 20
_LEAST_WEIGHT = 4096


class TenantCache(Generic[Key, Entry]):
    """Entries by tenant and key; drops the least recently used ones.

    Tenants share no entries, because response times would reveal another tenant's texts. An entry's
    weight is the length of its text in bytes, at least 4 KiB. Its tokens take up to 150 times as
    much; all entries together take at most 180 MB. Above `capacity` the tenant that holds most
    loses its oldest entry, so no tenant can evict others' entries.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._held: dict[str, OrderedDict[Key, tuple[int, Entry]]] = {}

    def entry(self, key: Key, weight: int, new: Callable[[], Entry]) -> Entry:
        """The tenant's entry of this key, made if there is none."""
        own = self._held.setdefault(current_context().tenant.cache_domain, OrderedDict())
        if found := own.get(key):
            own.move_to_end(key)
            return found[1]
        made = new()
        own[key] = max(weight, _LEAST_WEIGHT), made
        while sum(map(_weight, self._held.values())) > self._capacity:
            max(self._held.values(), key=_weight).popitem(last=False)
        return made

    @asynccontextmanager
    async def filling(self, key: Key, entry: Entry) -> AsyncIterator[None]:
        """Fill an entry in the block, one request at a time; an entry left empty is forgotten.

        A lock, not a shared task: the work runs as part of one request, and if that is cancelled or
        refused, the next request in line does it as part of its own. Raises DeadlineExceeded.
        """
        try:
            async with asyncio.timeout(current_context().remaining()), entry.lock:
                yield
        except TimeoutError:
            raise DeadlineExceeded(
                "The deadline passed while the labels were being prepared."
            ) from None
        finally:
            own = self._held[current_context().tenant.cache_domain]
            if not entry.filled and key in own and own[key][1] is entry:
                del own[key]


def _weight(held: OrderedDict[Key, tuple[int, Entry]]) -> int:
    return sum(weight for weight, _ in held.values())


@dataclass(slots=True)
class _Entry(CacheEntry):
    plain: Classifier | None = None
    calibrated: Classifier | None = None

    @property
    def filled(self) -> bool:
        return self.plain is not None


class QuestionCache:
    """The base model's classifiers by question, for each tenant.

    A label set is tokenised and its prior measured once per question, however many requests ask it
    at the same time.
    """

    def __init__(self, engine: LabelEngine, capacity: int = CAPACITY) -> None:
        self._engine = engine
        self._kept = TenantCache[Question, _Entry](capacity)

    async def classifier(self, question: Question, *, calibrate: bool) -> Classifier:
        """The classifier of a question.

        Raises InvalidRequest for labels that cannot be scored or a question too long for the
        model's context, DeadlineExceeded, and the errors of `LabelEngine.prepare`. It also raises
        errors of measuring the prior, which the next request then tries again.
        """
        entry = self._kept.entry(question, question.size, _Entry)
        classifier = entry.calibrated if calibrate else entry.plain
        if classifier is not None:
            return classifier
        async with self._kept.filling(question, entry):
            plain = entry.plain = entry.plain or await self._build(question)
            if not calibrate:
                return plain
            entry.calibrated = entry.calibrated or await calibrated(plain)
            return entry.calibrated

    async def _build(self, question: Question) -> Classifier:
        build = partial(zero_shot, self._engine, question)
        return await self._engine.prepare(question.work, build)
