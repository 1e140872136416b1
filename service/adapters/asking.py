"""Golden examples asked of a running engine, and the refusal of answers that prove nothing."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TypeVar

from service.adapters.golden import ClassificationExample
from service.adapters.golden_score import GoldenResult, score_classification
from service.adapters.pattern import PatternRefused
from service.classification.result import TextClassifier, classify_one
from service.common.aio import together
from service.context import current_context
from service.errors import DeadlineExceeded, EngineDead, QueueFull, ServiceError
from service.sources.refusal import FileRefused

_FULL_PAUSE_SECONDS = 0.1

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Refuse(Protocol):
    """Makes the refusal of a proof."""

    def __call__(self, expected: str, found: object) -> FileRefused: ...


async def patiently(
    most: int, items: Sequence[Item], ask: Callable[[Item], Awaitable[Answer]]
) -> list[Answer]:
    """Ask for every item, `most` at once, and wait while the queue is full.

    At a reload on a busy server users have precedence, until the current request's deadline.
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

    return await together([one(item) for item in items])


async def classified(
    classifier: TextClassifier, examples: Sequence[ClassificationExample], most: int
) -> GoldenResult:
    """Compare the best label of each example, or under multi_label those that apply."""

    async def classify(example: ClassificationExample) -> frozenset[str]:
        answer = await classify_one(classifier, example.input, asyncio.Semaphore(most))
        if classifier.multi_label:
            return frozenset(answer.label_set or ())
        return frozenset((answer.scores[0].label,))

    answers = await patiently(most, examples, classify)
    return await asyncio.to_thread(score_classification, examples, answers)


@contextmanager
def answered(refuse: Refuse, timeout_s: float) -> Iterator[None]:
    """Turn errors that prevent answers to golden examples into refusals."""
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
    """Refuse a result of fewer right answers than this share."""
    if result.accuracy < least:
        raise refuse(f"an accuracy of at least {least:g}", _shortfall(result))


def _shortfall(result: GoldenResult) -> str:
    shown = "".join(
        f"; line {failure.line}: expected {failure.expected!r}, found {failure.found!r}"
        for failure in result.failures[:1]
    )
    return f"{result.passed} of {result.total} right ({result.accuracy:.3f}){shown}"
