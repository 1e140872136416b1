"""Results of classified texts, and the classification of many at once."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from service.classification.calibration import Array
from service.classification.conformal import label_sets
from service.classification.scorer import Score
from service.common.error_messages import quote
from service.engine.pooling import ConformalSets, GuardThreshold, Reference
from service.errors import InvalidRequest, ServiceError

MULTI_LABEL_THRESHOLD = 0.5


@dataclass(frozen=True, slots=True)
class ResultOptions:
    """Options of the result, set by the caller and by the adapter.

    `multi_label`: the probabilities are of independent yes/no questions, not of one distribution.
    `top_k`: list at most this many scores, the best. `threshold`: the lowest score with which a
    label is given as the answer. `conformal`: the label sets to return; with `multi_label` they
    have a threshold for each label, else one for all.
    """

    multi_label: bool = False
    top_k: int | None = None
    threshold: float | None = None
    conformal: ConformalSets | None = None


@dataclass(frozen=True, slots=True)
class LabelScore:
    """A label and its probability."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Classification:
    """The answer for one input.

    `label` is the best label, or None when the answer abstains; `score` is the best score either
    way. `scores` come best first, equal ones in the order of the label set; `probs` holds every
    label's probability in that order. `label_set`, best first, holds the labels that the conformal
    calibration does not rule out, or is None without one. With `multi_label`, `label_set` holds the
    labels that apply, and `conformal_set` those that are not ruled out.
    """

    label: str | None
    score: float
    scores: tuple[LabelScore, ...]
    probs: tuple[float, ...]
    label_set: tuple[str, ...] | None
    abstained: bool
    conformal_set: tuple[str, ...] | None = None


def given_labels(result: Classification, *, multi_label: bool) -> tuple[str, ...]:
    """The labels that an answer gives: the best one, or all that apply; none if it abstains."""
    if result.label is None:
        return ()
    several = result.label_set if multi_label else None
    return several or (result.label,)


def assemble(names: Sequence[str], log_probs: Array, options: ResultOptions) -> Classification:
    """The answer for one input: `log_probs` holds one calibrated log-probability per name.

    With `multi_label` they are the log-probabilities of each label's yes, and the labels that
    apply are those scored at least `threshold` (0.5 when none is given). The answer abstains when
    no label reaches the threshold, or none belongs to the conformal set.
    """
    probs: list[float] = np.exp(log_probs).tolist()
    order = sorted(range(len(probs)), key=probs.__getitem__, reverse=True)
    scores = tuple(LabelScore(names[index], probs[index]) for index in order)

    def labels_of(least: float | tuple[float, ...]) -> tuple[str, ...]:
        members = label_sets(np.array(probs), least)
        return tuple(names[index] for index in order if members[index])

    threshold, conformal_set = options.threshold, None
    label_set = None if options.conformal is None else labels_of(options.conformal.least)
    if options.multi_label:
        threshold = MULTI_LABEL_THRESHOLD if threshold is None else threshold
        label_set, conformal_set = labels_of(threshold), label_set
    best = scores[0]
    abstained = label_set == () or (threshold is not None and best.score < threshold)
    return Classification(
        label=None if abstained else best.label,
        score=best.score,
        scores=scores[: options.top_k],
        probs=tuple(probs),
        label_set=label_set,
        abstained=abstained,
        conformal_set=conformal_set,
    )


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
        """The conformal label sets of the model's manifest."""

    @property
    def guard(self) -> GuardThreshold | None:
        """The guard's labels and threshold from the model's manifest."""

    @property
    def reference(self) -> Reference | None:
        """Histograms of typical inputs from the model's manifest, to measure drift against."""

    async def score(self, text: str, slots: asyncio.Semaphore) -> Score:
        """The calibrated log-probabilities of one input; an engine request takes one of `slots`."""


async def classify_one(
    classifier: TextClassifier, text: str, slots: asyncio.Semaphore
) -> Classification:
    """The complete answer for one input, as `/v1/classify` gives it without options."""
    score = await classifier.score(text, slots)
    options = ResultOptions(multi_label=classifier.multi_label, conformal=classifier.conformal)
    return assemble(classifier.names, score.log_probs, options)


async def classify_batch(
    classifier: TextClassifier, inputs: Sequence[str], options: ResultOptions, width: int
) -> AsyncGenerator[Outcome, None]:
    """One outcome per input, in the order in which they finish.

    At most `width` reads of the batch wait for the engine or run in it at one time, so that a batch
    never fills the queue alone; only as many inputs are begun as these reads need. Closing the
    stream cancels unfinished inputs.

    Once any input has been answered, a failure concerns its input alone; until then failures are
    held back. A batch without an answer raises the error of its first input; a server that refuses
    the first reads (full, draining, deadline) refuses the batch at once.
    """
    slots = asyncio.Semaphore(width)
    if len(inputs) == 1:  # one input needs no task of its own
        yield _succeed(await _classify(classifier, 0, inputs[0], options, slots))
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


def _succeed(outcome: Outcome) -> Classified:
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
