"""The work of the shadow stage: asks the next version in the background, and compares answers."""

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from service.adapters.formats import AdapterRefused
from service.adapters.proof import prove
from service.adapters.registry import AdapterRegistry, ServedVersion
from service.classification.result import ResultOptions, assemble, given_labels
from service.context import Ending, Hooks, RequestContext, SinkWrappers, internal_request
from service.context.answer import ReplayText
from service.engine.contract import Job
from service.errors import (
    DeadlineExceeded,
    EngineDead,
    InvalidRequest,
    NotFound,
    NotReady,
    QueueFull,
    ServiceError,
    TooManyRequests,
)
from service.generation.fold import Fold
from service.generation.served_model import ServedModel
from service.plugins.rollouts.canary import Shadow
from service.plugins.rollouts.replay import Replay, ReplayGeneration

FAILED = {"errors": 1.0, "invalid": 0.0}
"""Differences if the next version failed and the old one answered."""
REFUSED = {"errors": 0.0, "invalid": 1.0}
"""Differences if the next version refused the request as invalid and the old one answered."""

_MUCH = math.log(2)


def differences(old: Replay, new: Replay) -> dict[str, float]:
    """The differences between both versions' answers to a request, as observations for the tests.

    Sampled generations are compared only by length, because two samples of the same model differ
    too.
    """
    found = {"errors": 0.0, "invalid": 0.0}
    if isinstance(old, ReplayText) and isinstance(new, ReplayText):
        return found | _of_texts(old, new)
    assert isinstance(old, ReplayGeneration)
    assert isinstance(new, ReplayGeneration)
    return found | _of_generations(old, new)


def _of_texts(old: ReplayText, new: ReplayText) -> dict[str, float]:
    """Differences of a classification; an answer that abstains gives no label to compare."""
    found = {"divergence": _distance(old, new)}
    found["abstentions"] = float(bool(old.labels) and not new.labels)
    if old.labels and new.labels:
        found["flips"] = float(set(old.labels) != set(new.labels))
    return found


def _distance(old: ReplayText, new: ReplayText) -> float:
    """Total variation distance of the two distributions: half the sum of their differences.

    Probabilities of independent labels need not sum to 1. If they sum to more, the difference is
    divided by the sum of both, so that the distance is at most 1.
    """
    labels = {*old.probs, *new.probs}
    apart = sum(abs(old.probs.get(label, 0.0) - new.probs.get(label, 0.0)) for label in labels)
    whole = max(2.0, sum(old.probs.values()) + sum(new.probs.values()))
    return min(1.0, apart / whole)


def _of_generations(old: ReplayGeneration, new: ReplayGeneration) -> dict[str, float]:
    ratio = math.log(max(1, len(new.tokens)) / max(1, len(old.tokens)))
    found = {"lengths": float(ratio > _MUCH) - float(ratio < -_MUCH)}
    if old.repeatable:
        found["answers"] = float(old.tokens != new.tokens)
    if old.cut is not None and new.cut is not None:
        found["structure"] = float(new.cut and not old.cut)
    return found


_log = logging.getLogger(__name__)
MOST = 16
"""Largest number of requests, of all releases, whose question and answer are kept at one time."""
_PROOF_PAUSE_SECONDS = 30.0
_NO_ANSWER = (DeadlineExceeded, EngineDead, NotFound, NotReady, QueueFull, TooManyRequests)
"""Errors that say nothing about the version."""

Compared = Callable[[Mapping[str, float] | None], None]
"""Takes the differences of a pair of answers; None if the next version was not asked."""


@dataclass(frozen=True, slots=True)
class GoldenProof:
    """Result of golden examples asked again; `told` has the figures without the examples."""

    passed: bool
    told: Mapping[str, Any]


class Rehearsal:
    """Sends requests to versions as background work, for which no tenant pays.

    `flex_room` gives how many more background sequences fit; `busy` tells whether interactive
    sequences run.
    """

    def __init__(
        self,
        engine: ServedModel,
        registry: AdapterRegistry,
        flex_room: Callable[[], int],
        busy: Callable[[], bool],
        golden_timeout_s: float,
    ) -> None:
        self._engine = engine
        self._registry = registry
        self._flex_room = flex_room
        self._busy = busy
        self._golden_timeout_s = golden_timeout_s

    @property
    def room(self) -> bool:
        """True if there is room for background work now."""
        return self._flex_room() > 0

    @property
    def busy(self) -> bool:
        """True if requests of callers run now."""
        return self._busy()

    async def repeat(self, exact: str, kept: Replay) -> Replay:
        """A version's answer to a recorded request; raises ServiceError as a request does."""
        async with (
            self._held(exact) as version,
            internal_request("shadow", _TIMEOUT_SECONDS) as context,
        ):
            context.become_flex()
            if isinstance(kept, ReplayText):
                return await _classified(version, kept)
            assert kept.sampling is not None
            sampling = replace(kept.sampling, n=1, logprobs=None, prompt_logprobs=None)
            job, answer = Job(kept.prompt, sampling, adapter=version.adapter), ReplayGeneration()
            await self._engine.run(job, answer.record(job, Fold()))
            return answer

    async def prove(self, exact: str) -> GoldenProof | None:
        """The golden proof of a version; None if it has no golden examples.

        Raises ServiceError if there is no room or time for it.
        """
        async with self._held(exact) as version:
            manifest, timeout_s = version.manifest, self._golden_timeout_s
            try:
                proof = await prove(
                    self._engine, version.adapter, manifest, timeout_s, background=True
                )
            except AdapterRefused as refused:
                return GoldenProof(False, _told(refused))
        if proof is None:
            return None
        told = {
            "passed": proof.result.passed,
            "total": proof.result.total,
            "min_accuracy": proof.min_accuracy,
        }
        return GoldenProof(True, told)

    @asynccontextmanager
    async def _held(self, exact: str) -> AsyncIterator[ServedVersion]:
        version = self._registry.acquire(exact)
        if version is None:
            raise NotFound(f"{exact} is not an adapter")
        try:
            yield version
        finally:
            self._registry.release(version)


async def _classified(version: ServedVersion, kept: ReplayText) -> ReplayText:
    classifier = version.classifier
    if classifier is None:
        raise ServiceError("The version has no labels.")
    score = await classifier.score(kept.text, asyncio.Semaphore(1))
    options = ResultOptions(
        multi_label=classifier.multi_label,
        threshold=kept.threshold,
        conformal=classifier.conformal,
    )
    result = assemble(classifier.names, score.log_probs, options)
    return ReplayText(
        labels=given_labels(result, multi_label=classifier.multi_label),
        probs=dict(zip(classifier.names, result.probs, strict=True)),
    )


def _told(refused: AdapterRefused) -> dict[str, str]:
    """A refusal without the example that it quotes.

    Raises the cause if it was the server's load, which says nothing about the adapter.
    """
    cause = refused.__cause__
    if isinstance(cause, TimeoutError):
        raise DeadlineExceeded("The golden examples took too long.") from refused
    if isinstance(cause, ServiceError) and cause.status in (429, 503, 504):
        raise cause
    return {
        "file": refused.file,
        "expected": refused.expected,
        "found": refused.found.partition(";")[0],
    }


class Background:
    """Asks the next version after the old one has answered; drops requests if there is no room.

    Nothing is asked until `rehearsal` is set, nor after `stop`.
    """

    def __init__(self) -> None:
        self.rehearsal: Rehearsal | None = None
        self._open = 0
        self._tasks = set[asyncio.Task[None]]()

    def follow(self, shadow: Shadow, context: RequestContext, compared: Compared) -> None:
        """Repeat a request once it ends, if it is in the sample and fewer than MOST are pending."""
        rehearsal = self.rehearsal
        if rehearsal is None or not shadow.asks(context, busy=rehearsal.busy):
            return
        if self._open >= MOST:
            compared(None)
            return
        self._open += 1
        kept = shadow.place()
        if isinstance(kept, ReplayText):
            context.extend(kept)
        else:
            context.extended(SinkWrappers).wrap.append(kept.record)
        context.extend(Hooks(on_ending=partial(self._ended, shadow, context, kept, compared)))

    def prove(self, exact: str, proven: Callable[[GoldenProof], None]) -> None:
        """Ask a version's golden examples; without room, try again every 30 seconds."""
        if self.rehearsal is not None:
            self._start(self._prove(self.rehearsal, exact, proven))

    def stop(self) -> None:
        """Cancel the running work and start no more."""
        self.rehearsal = None
        for task in self._tasks:
            task.cancel()

    def _ended(
        self,
        shadow: Shadow,
        context: RequestContext,
        kept: Replay,
        compared: Compared,
        ending: Ending,
    ) -> None:
        rehearsal = self.rehearsal
        wanted = ending.outcome == "ok" and kept.answered and shadow.verdict is None
        if (
            rehearsal is not None
            and wanted
            and rehearsal.room
            and shadow.asks(context, busy=rehearsal.busy)
        ):
            self._start(self._repeat(rehearsal, shadow.new.exact, kept, compared))
            return
        self._open -= 1
        if wanted:
            compared(None)

    async def _repeat(
        self, rehearsal: Rehearsal, exact: str, kept: Replay, compared: Compared
    ) -> None:
        try:
            compared(await _answered(rehearsal, exact, kept))
        finally:
            self._open -= 1

    async def _prove(
        self, rehearsal: Rehearsal, exact: str, proven: Callable[[GoldenProof], None]
    ) -> None:
        while True:
            try:
                proof = await rehearsal.prove(exact)
            except (EngineDead, NotFound):
                return
            except ServiceError as error:
                _log.info("golden examples of %s: later: %s", exact, error.code)
                await asyncio.sleep(_PROOF_PAUSE_SECONDS)
            else:
                if proof is not None:
                    proven(proof)
                return

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _answered(rehearsal: Rehearsal, exact: str, kept: Replay) -> Mapping[str, float] | None:
    """The differences of the next version's answer; None for an error that is not its fault."""
    try:
        return differences(kept, await rehearsal.repeat(exact, kept))
    except _NO_ANSWER:
        return None
    except InvalidRequest:
        return REFUSED
    except Exception as error:
        _log.warning("%s failed in the background: %s", exact, type(error).__name__)
        return FAILED


_TIMEOUT_SECONDS = 60.0
