"""Versions asked in the background: what another version answered, and their golden examples."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

from service.adapters.proof import prove
from service.adapters.refusal import AdapterRefused
from service.adapters.registry import AdapterRegistry, ServedVersion
from service.classification.result import ResultOptions, assemble, given_labels
from service.context import internal_request
from service.context.kept import Kept, KeptGeneration, KeptText
from service.engine.contract import Job
from service.engine.roles import Decoder
from service.errors import DeadlineExceeded, NotFound, ServiceError
from service.generation.fold import Fold

_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class GoldenProof:
    """Result of golden examples that were asked again; `told` has the figures and no example."""

    passed: bool
    told: Mapping[str, Any]


class Rehearsal:
    """Asks versions on the engine as flex work of the service's own, which no tenant pays.

    `flex_room` says how many sequences of the background class the gate has room for, `busy` if
    sequences of the interactive class run.
    """

    def __init__(
        self,
        engine: Decoder,
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
        """True if the gate has room for background work now."""
        return self._flex_room() > 0

    @property
    def busy(self) -> bool:
        """True if requests of callers run now."""
        return self._busy()

    async def repeat(self, exact: str, kept: Kept) -> Kept:
        """The answer of a version to what was kept; raises ServiceError as a request does."""
        async with (
            self._held(exact) as version,
            internal_request("shadow", _TIMEOUT_SECONDS) as context,
        ):
            context.become_flex()
            if isinstance(kept, KeptText):
                return await _classified(version, kept)
            context.extend(answer := KeptGeneration())
            assert kept.sampling is not None
            sampling = replace(kept.sampling, n=1, logprobs=None, prompt_logprobs=None)
            await self._engine.run(Job(kept.prompt, sampling, version.adapter), Fold())
            return answer

    async def prove(self, exact: str) -> GoldenProof | None:
        """The golden proof of a version; None if it has no golden examples.

        Raises ServiceError where there was no room or time for it.
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


async def _classified(version: ServedVersion, kept: KeptText) -> KeptText:
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
    return KeptText(
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
