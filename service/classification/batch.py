"""Many inputs of one request: classified side by side, each failing for itself."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from service.classification.classifier import Classifier
from service.classification.result import Classification, ResultOptions, assemble
from service.classification.scorer import Score
from service.errors import InvalidRequest, ServiceError


@dataclass(frozen=True, slots=True)
class Classified:
    """The answer for input `index`, and what it took."""

    index: int
    result: Classification
    score: Score


@dataclass(frozen=True, slots=True)
class Failed:
    """Why input `index` has no answer."""

    index: int
    error: ServiceError


Outcome = Classified | Failed


async def classify_batch(
    classifier: Classifier, inputs: Sequence[str], options: ResultOptions, width: int
) -> AsyncGenerator[Outcome, None]:
    """One outcome per input, in the order in which they finish.

    At most `width` reads of the batch are at the gate or in the engine at one time, so that a
    batch never fills the queue by itself. Closing the stream cancels what has not finished.

    A failure is the failure of its input alone, once any input has been answered: until then
    failures are held back. A batch without an answer raises the error of its first input; a
    server that refuses the first reads (full, draining, deadline) refuses the batch at once.
    """
    slots = asyncio.Semaphore(width)
    waiting = iter(enumerate(inputs))
    running: set[asyncio.Task[Outcome]] = set()
    held: list[Failed] | None = []
    try:
        while True:
            while len(running) < width and (item := next(waiting, None)) is not None:
                running.add(asyncio.create_task(_classify(classifier, *item, options, slots)))
            if not running:
                break
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for outcome in sorted((task.result() for task in done), key=lambda o: o.index):
                if held is None:
                    yield outcome
                elif isinstance(outcome, Classified):
                    for failed in held:
                        yield failed
                    held = None
                    yield outcome
                elif isinstance(outcome.error, InvalidRequest):
                    held.append(outcome)
                else:
                    raise outcome.error
    finally:
        await _cancel(running)
    if held:
        raise min(held, key=lambda failed: failed.index).error


async def _classify(
    classifier: Classifier,
    index: int,
    text: str,
    options: ResultOptions,
    slots: asyncio.Semaphore,
) -> Outcome:
    try:
        if not text.strip():
            raise InvalidRequest("input: must not be empty", param="input")
        score = await classifier.score(text, slots)
    except ServiceError as error:
        return Failed(index, error)
    return Classified(index, assemble(classifier.names, score.log_probs, options), score)


async def _cancel(tasks: set[asyncio.Task[Outcome]]) -> None:
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(tasks)
