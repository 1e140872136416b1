"""Asks a running engine golden examples, and refuses answers that prove nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from service.adapters.classifier import AdapterFrame, build_classifier
from service.adapters.formats import PatternRefused
from service.adapters.golden import (
    ClassificationExample,
    GenerationExample,
    GoldenMessage,
    load_classification_golden,
    load_generation_golden,
)
from service.adapters.golden_score import (
    GoldenResult,
    as_text,
    score_classification,
    score_generation,
)
from service.adapters.manifest import (
    ClassificationManifest,
    GenerationGolden,
    GenerationManifest,
    Manifest,
)
from service.classification.result import TextClassifier, classify_one
from service.common.aio import gather
from service.context import current_context
from service.engine.contract import Adapter, Sampling
from service.engine.texts import LabelEngine, Message
from service.errors import DeadlineExceeded, EngineDead, QueueFull, ServiceError
from service.generation.fold import Fold
from service.generation.served_model import ServedModel
from service.generation.text import GenerationRequest
from service.sources.reference import Refuse

_FULL_PAUSE_SECONDS = 0.1

Item = TypeVar("Item")
Answer = TypeVar("Answer")


async def ask_all(
    most: int, items: Sequence[Item], ask: Callable[[Item], Awaitable[Answer]]
) -> list[Answer]:
    """Ask for all items, at most `most` at a time, and retry while the queue is full.

    So requests of users go first during a reload of a busy server. Ends at the deadline of the
    current request.
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


async def score_classifier(
    classifier: TextClassifier, examples: Sequence[ClassificationExample], most: int
) -> GoldenResult:
    """Compare the best label of each example, or with multi_label the labels that apply."""

    async def classify(example: ClassificationExample) -> frozenset[str]:
        answer = await classify_one(classifier, example.input, asyncio.Semaphore(most))
        if classifier.multi_label:
            return frozenset(answer.label_set or ())
        return frozenset((answer.scores[0].label,))

    answers = await ask_all(most, examples, classify)
    return await asyncio.to_thread(score_classification, examples, answers)


@contextmanager
def refuse_unanswered(refuse: Refuse, timeout_s: float) -> Iterator[None]:
    """Turn errors of the block, which asks golden examples, into the refusal of the adapter."""
    try:
        yield
    except EngineDead:
        raise
    except DeadlineExceeded as error:
        raise refuse("proof", f"answers within {timeout_s:g} s", "too few") from error
    except TimeoutError as error:
        raise refuse("proof", f"comparisons within {timeout_s:g} s", "slower") from error
    except PatternRefused as error:
        raise refuse("proof", "patterns that answer in time", error) from error
    except ServiceError as error:
        raise refuse("proof", "an answer to every example", error.message) from error


def check_accuracy(refuse: Refuse, result: GoldenResult, least: float) -> None:
    """Raise the refusal if the share of right answers is below `least`."""
    if result.accuracy >= least:
        return
    found = f"{result.passed} of {result.total} right ({result.accuracy:.3f})"
    if (first := result.failure) is not None:
        found += f"; line {first.line}: expected {first.expected!r}, found {first.found!r}"
    raise refuse("proof", f"an accuracy of at least {least:g}", found)


_SPARE_TOKENS = 8
"""Extra tokens for a base that phrases the expected answer differently."""


@dataclass(frozen=True, slots=True)
class ClassificationQuestions:
    """The golden examples of an adapter with labels, for the adapter or for the base alone."""

    engine: LabelEngine
    manifest: ClassificationManifest
    examples: Sequence[ClassificationExample]

    async def result(self, adapter: Adapter | None) -> GoldenResult:
        """Ask every example and compare the answers; raises the engine's errors."""
        classifier = build_classifier(self.engine, adapter, self.manifest)
        return await score_classifier(classifier, self.examples, self.engine.model.max_num_seqs)

    async def prompt(self, line: int) -> list[int]:
        """The prompt of the example at `line`, from 1."""
        frame = self.frame()
        return frame.prompt(self.examples[line - 1].input, frame.questions[0])

    def frame(self) -> AdapterFrame:
        """The prompts and label tries of the manifest."""
        return AdapterFrame(self.engine, self.manifest.prompt, self.manifest.classification)


@dataclass(frozen=True, slots=True)
class GenerationQuestions:
    """The golden examples of an adapter that writes, for the adapter or for the base alone."""

    engine: ServedModel
    manifest: GenerationManifest
    golden: GenerationGolden
    examples: Sequence[GenerationExample]

    async def result(self, adapter: Adapter | None) -> GoldenResult:
        """Ask every example and compare the answers.

        Raises PatternRefused and TimeoutError like `score_generation`, and the engine's errors.
        """
        texts = await self.answers(self.examples, adapter)
        left = current_context().remaining()
        return await asyncio.to_thread(score_generation, self.examples, texts, self.golden, left)

    async def prompt(self, line: int) -> list[int]:
        """The prompt of the example at `line`, from 1."""
        return await self._request(self.examples[line - 1], None).render(self.engine)

    async def answers(
        self, examples: Sequence[GenerationExample], adapter: Adapter | None
    ) -> list[str]:
        """The greedy answers; the base's end after the tokens with which they could match."""

        async def ask(example: GenerationExample) -> str:
            job = await self._request(example, adapter).prepare(self.engine)
            fold = Fold()
            await self.engine.run(job, fold)
            return fold.whole()[0].text

        return await ask_all(self.engine.model.max_num_seqs, examples, ask)

    def _request(self, example: GenerationExample, adapter: Adapter | None) -> GenerationRequest:
        prompt, limit = example.prompt, self.golden.max_tokens
        if example.input is not None and self.manifest.prompt is not None:
            prompt = self.manifest.prompt.render(example.input)
        if adapter is None and example.pattern is None:
            expected = as_text(example.expect)
            limit = min(limit, 2 * len(self.engine.encode(expected)) + _SPARE_TOKENS)
        return greedy(prompt, example.messages, limit, adapter)


Questions = ClassificationQuestions | GenerationQuestions


async def load_questions(engine: ServedModel, folder: Path, manifest: Manifest) -> Questions:
    """The golden examples of a folder as questions.

    Raises AdapterRefused for a golden file that cannot be used and for labels that cannot be read.
    """
    if isinstance(manifest, ClassificationManifest):
        examples = await asyncio.to_thread(load_classification_golden, folder, manifest)
        return ClassificationQuestions(engine, manifest, examples)
    assert manifest.golden is not None
    asked = await asyncio.to_thread(load_generation_golden, folder, manifest)
    return GenerationQuestions(engine, manifest, manifest.golden, asked)


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
