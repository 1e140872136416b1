"""Golden examples asked of a running engine, and the refusal of answers that prove nothing."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from service.adapters.classifier import AdapterFrame, adapter_classifier
from service.adapters.formats import AdapterRefused, PatternRefused
from service.adapters.golden import (
    ClassificationExample,
    GenerationExample,
    GoldenMessage,
    load_classification_golden,
    load_generation_golden,
)
from service.adapters.golden_score import (
    GoldenResult,
    may_match,
    score_classification,
    score_generation,
)
from service.adapters.manifest import (
    MAX_READ_TOKENS,
    ClassificationManifest,
    GenerationGolden,
    GenerationManifest,
    Manifest,
)
from service.classification.classifier import Classifier
from service.classification.result import TextClassifier, classify_one
from service.common.aio import gather
from service.context import current_context
from service.engine.contract import Adapter, Output, Sampling, TextSink
from service.engine.texts import LabelEngine, Message
from service.errors import DeadlineExceeded, EngineDead, InvalidRequest, QueueFull, ServiceError
from service.generation.fold import Fold
from service.generation.served_model import ServedModel
from service.generation.text import GenerationRequest
from service.sources.reference import FileRefused

_FULL_PAUSE_SECONDS = 0.1

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Refuse(Protocol):
    """Makes the refusal of a proof."""

    def __call__(self, expected: str, found: object) -> FileRefused: ...


async def patiently(
    most: int, items: Sequence[Item], ask: Callable[[Item], Awaitable[Answer]]
) -> list[Answer]:
    """Ask for all items, at most `most` at a time; a full queue is retried.

    So at a reload users have precedence on a busy server, until the current request's deadline.
    """
    slots = asyncio.Semaphore(most)

    async def one(item: Item) -> Answer:
        async with slots:
            while True:
                try:
                    return await ask(item)
                except QueueFull:
                    if current_context().remaining() <= _FULL_PAUSE_SECONDS:
                        raise
                    await asyncio.sleep(_FULL_PAUSE_SECONDS)

    return await gather([one(item) for item in items])


async def classified(
    classifier: TextClassifier, examples: Sequence[ClassificationExample], most: int
) -> GoldenResult:
    """Compare the best label of each example, or with multi_label the labels that apply."""

    async def classify(example: ClassificationExample) -> frozenset[str]:
        answer = await classify_one(classifier, example.input, asyncio.Semaphore(most))
        if classifier.multi_label:
            return frozenset(answer.label_set or ())
        return frozenset((answer.scores[0].label,))

    answers = await patiently(most, examples, classify)
    return await asyncio.to_thread(score_classification, examples, answers)


@contextmanager
def answered(refuse: Refuse, timeout_s: float) -> Iterator[None]:
    """Turn errors of a block that asks golden examples into the proof's refusal."""
    try:
        yield
    except EngineDead:
        raise
    except DeadlineExceeded as error:
        raise refuse(f"answers within {timeout_s:g} s", "too few") from error
    except TimeoutError as error:
        raise refuse(f"comparisons within {timeout_s:g} s", "slower") from error
    except PatternRefused as error:
        raise refuse("patterns that answer in time", error) from error
    except ServiceError as error:
        raise refuse("an answer to every example", error.message) from error


def check_accuracy(refuse: Refuse, result: GoldenResult, least: float) -> None:
    """Raise the refusal if the share of right answers is below `least`."""
    if result.accuracy < least:
        raise refuse(f"an accuracy of at least {least:g}", _shortfall(result))


def _shortfall(result: GoldenResult) -> str:
    shown = "".join(
        f"; line {failure.line}: expected {failure.expected!r}, found {failure.found!r}"
        for failure in result.failures[:1]
    )
    return f"{result.passed} of {result.total} right ({result.accuracy:.3f}){shown}"


_SPARE_TOKENS = 8
"""Extra tokens for a base that phrases the expected answer differently."""

_PLACED_EXAMPLES = 16
"""Number of examples whose answers are searched for positions to fingerprint."""

Place = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Where to read: line of the golden file (from 1), answer tokens before it, candidate token ids."""


class Questions(Protocol):
    """The golden examples of one adapter; None in an adapter's place asks the base."""

    async def result(self, adapter: Adapter | None) -> GoldenResult:
        """Ask every example and compare the answers.

        Raises PatternRefused and TimeoutError like `score_generation`, and the engine's errors.
        """

    async def prompt(self, line: int) -> list[int]:
        """The prompt of the example at `line`, from 1."""

    async def places(self, adapter: Adapter) -> Sequence[Place]:
        """Positions in the adapter's answers to the first examples that a fingerprint may read."""


async def ask_golden(engine: ServedModel, folder: Path, manifest: Manifest) -> Questions | None:
    """The golden examples of a folder as questions; None if its manifest names none.

    Raises AdapterRefused for a golden file that cannot be used and for labels that cannot be read.
    """
    if manifest.golden is None:
        return None
    if isinstance(manifest, GenerationManifest):
        asked = await asyncio.to_thread(load_generation_golden, folder, manifest)
        return _Generation(engine, manifest, manifest.golden, asked)
    examples = await asyncio.to_thread(load_classification_golden, folder, manifest)
    return _Classification(engine, manifest, examples)


def classifier_of(
    engine: LabelEngine, adapter: Adapter | None, manifest: ClassificationManifest
) -> Classifier:
    """The classifier of a manifest; AdapterRefused for labels that cannot be read."""
    try:
        return adapter_classifier(engine, adapter, manifest)
    except InvalidRequest as error:
        raise AdapterRefused(
            manifest.name,
            "adapter.yaml",
            "classification",
            "labels that can be read after the template",
            error.message,
        ) from error


@dataclass(frozen=True, slots=True)
class _Classification:
    engine: LabelEngine
    manifest: ClassificationManifest
    examples: Sequence[ClassificationExample]

    async def result(self, adapter: Adapter | None) -> GoldenResult:
        classifier = classifier_of(self.engine, adapter, self.manifest)
        return await classified(classifier, self.examples, self.engine.model.max_num_seqs)

    async def prompt(self, line: int) -> list[int]:
        frame = self._frame()
        return frame.prompt(self.examples[line - 1].input, frame.questions[0])

    async def places(self, adapter: Adapter) -> Sequence[Place]:
        read = self._frame().questions[0].scorer.trie.reads[0]
        tokens = read.token_ids[:MAX_READ_TOKENS]
        count = min(len(self.examples), _PLACED_EXAMPLES)
        return [(line, read.prefix, tokens) for line in range(1, count + 1)]

    def _frame(self) -> AdapterFrame:
        return AdapterFrame(self.engine, self.manifest.prompt, self.manifest.classification)


@dataclass(frozen=True, slots=True)
class _Generation:
    engine: ServedModel
    manifest: GenerationManifest
    golden: GenerationGolden
    examples: Sequence[GenerationExample]

    async def result(self, adapter: Adapter | None) -> GoldenResult:
        async def answer(example: GenerationExample) -> str:
            return await self._answer(example, adapter)

        texts = await patiently(self.engine.model.max_num_seqs, self.examples, answer)
        left = current_context().remaining()
        return await asyncio.to_thread(score_generation, self.examples, texts, self.golden, left)

    async def prompt(self, line: int) -> list[int]:
        asked = self._request(self.examples[line - 1], None, 1)
        return await asked.render(self.engine)

    async def places(self, adapter: Adapter) -> Sequence[Place]:
        async def answer(example: GenerationExample) -> str:
            return await self._answer(example, adapter)

        first, found = self.examples[:_PLACED_EXAMPLES], list[Place]()
        for line, text in enumerate(
            await patiently(self.engine.model.max_num_seqs, first, answer), 1
        ):
            answered = tuple(self.engine.encode(text)[:MAX_READ_TOKENS])
            tokens = tuple(dict.fromkeys(answered))
            found += [(line, answered[:before], tokens) for before in range(len(answered))]
        return found

    async def _answer(self, example: GenerationExample, adapter: Adapter | None) -> str:
        """The greedy answer; the base's answer ends early once it can no longer match."""
        limit = self.golden.max_tokens
        if adapter is None:
            limit = min(limit, self._enough(example))
        job = await self._request(example, adapter, limit).prepare(self.engine)
        if adapter is not None:
            fold = Fold()
            await self.engine.run(job, fold)
            return fold.whole()[0].text
        asked = _Hopeful(lambda text: may_match(example, text, self.golden))
        with suppress(_Hopeless):
            await self.engine.run(job, asked)
        return asked.text

    def _enough(self, example: GenerationExample) -> int:
        """Number of tokens after which the base's answer matches or never will."""
        if example.pattern is not None:
            return self.golden.max_tokens
        expect = example.expect
        text = expect if isinstance(expect, str) else json.dumps(expect)
        return 2 * len(self.engine.encode(text)) + _SPARE_TOKENS

    def _request(
        self, example: GenerationExample, adapter: Adapter | None, max_tokens: int
    ) -> GenerationRequest:
        prompt = example.prompt
        if example.input is not None and self.manifest.prompt is not None:
            prompt = self.manifest.prompt.render(example.input)
        return greedy(prompt, example.messages, max_tokens, adapter)


class _Hopeless(Exception):
    """An answer can no longer match."""


class _Hopeful:
    """A sink that ends an answer once it can no longer match."""

    restart = None

    def __init__(self, may_match: Callable[[str], bool]) -> None:
        self.text = ""
        self._may_match = may_match

    def take(self, output: Output) -> TextSink | None:
        self.add("".join(part.text for part in output.parts), 0)
        return self

    def add(self, text: str, tokens: int) -> None:
        self.text += text
        if not self._may_match(self.text):
            raise _Hopeless

    def release(self) -> None: ...


def greedy(
    prompt: str | None,
    messages: Sequence[GoldenMessage] | None,
    max_tokens: int,
    adapter: Adapter | None,
    *,
    confidence: bool = False,
) -> GenerationRequest:
    """The request for the greedy answer to an example."""
    said = [Message(each.role, each.content) for each in messages or ()] or None
    sampling = Sampling(max_tokens=max_tokens, temperature=0.0)
    return GenerationRequest(prompt, said, max_tokens, sampling, adapter, confidence)
