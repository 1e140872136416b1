"""Many inputs of one request, classified concurrently; each fails alone."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

from service.classification.result import Classification, ResultOptions, assemble
from service.classification.scorer import Score
from service.engine.conformal_sets import ConformalSets
from service.engine.pooling import GuardThreshold
from service.engine.reference import Reference
from service.errors import InvalidRequest, ServiceError
from service.quoting import quote

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Classified:
    """The answer for input `index`, and its cost."""

    index: int
    result: Classification
    score: Score


@dataclass(frozen=True, slots=True)
class Failed:
    """The error of input `index`, which has no answer."""

    index: int
    error: ServiceError


Outcome = Classified | Failed


class TextClassifier(Protocol):
    """A label set that scores texts, by a language model or an encoder.

    `names` are the labels in the order of a score's log-probabilities. `multi_label` is true if
    these are of independent questions. `reads` is the number of engine requests that an input
    takes.
    """

    @property
    def names(self) -> tuple[str, ...]: ...

    @property
    def multi_label(self) -> bool: ...

    @property
    def reads(self) -> int: ...

    @property
    def conformal(self) -> ConformalSets | None:
        """The label sets that the model's manifest promises."""

    @property
    def guard(self) -> GuardThreshold | None:
        """The threshold of a guard that the model's manifest has."""

    @property
    def reference(self) -> Reference | None:
        """Typical inputs, which the model's manifest has counted."""

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        """The calibrated log-probabilities of one input; each engine request takes a slot."""


async def classify_one(
    classifier: TextClassifier, text: str, slots: asyncio.Semaphore
) -> Classification:
    """The whole answer for one input, as `/v1/classify` gives it without further options."""
    score = await classifier.score(text, slots)
    options = ResultOptions(multi_label=classifier.multi_label, conformal=classifier.conformal)
    return assemble(classifier.names, score.log_probs, options)


async def classify_batch(
    classifier: TextClassifier, inputs: Sequence[str], options: ResultOptions, width: int
) -> AsyncGenerator[Outcome, None]:
    """One outcome per input, in the order in which they finish.

    At most `width` reads of the batch are at the gate or in the engine at one time, so that a batch
    never fills the queue alone; only as many inputs are begun as these reads need. Closing the
    stream cancels unfinished inputs.

    Once any input has been answered, a failure concerns its input alone; until then failures are
    held back. A batch without an answer raises the error of its first input; a server that refuses
    the first reads (full, draining, deadline) refuses the batch at once.
    """
    slots = asyncio.Semaphore(width)
    if len(inputs) == 1:  # one input needs no task of its own
        yield _sound(await _classify(classifier, 0, inputs[0], options, slots))
        return
    finished: asyncio.Queue[Outcome] = asyncio.Queue()
    waiting = iter(enumerate(inputs))

    async def work() -> None:
        for index, text in waiting:
            finished.put_nowait(await _classify(classifier, index, text, options, slots))

    # One input more, so that its reads are ready while another input's last reads run.
    begun = -(-width // classifier.reads) + 1
    workers = [asyncio.create_task(work()) for _ in range(min(begun, len(inputs)))]
    try:
        held: list[Failed] | None = []
        for _ in inputs:
            await asyncio.sleep(0)  # let others in between two outcomes
            outcome = await finished.get()
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
        for worker in workers:
            worker.cancel()
        await asyncio.wait(workers)
    if held:
        raise min(held, key=lambda failed: failed.index).error


def _sound(outcome: Outcome) -> Classified:
    if isinstance(outcome, Failed):
        raise outcome.error
    return outcome


async def _classify(
    classifier: TextClassifier,
    index: int,
    text: str,
    options: ResultOptions,
    slots: asyncio.Semaphore,
) -> Outcome:
    try:
        if not text.strip():
            raise InvalidRequest(
                f"input: must hold more than white space, got {quote(text)}", param="input"
            )
        score = await classifier.score(text, slots)
        result = assemble(classifier.names, score.log_probs, options)
    except ServiceError as error:
        return Failed(index, error)
    except Exception:
        _log.exception("input %d of a batch failed", index)
        return Failed(index, ServiceError())
    return Classified(index, result, score)
