"""Background work of releases: what the old version answered is asked of the next one too.

Its golden examples are asked as well. No caller waits for any of these answers.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any

from service.context import Ending, Hooks, RequestContext
from service.context.kept import Kept
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
from service.plugins.rollouts.differences import FAILED, REFUSED, differences
from service.plugins.rollouts.rehearsal import GoldenProof, Rehearsal
from service.plugins.rollouts.shadow import Shadow

_log = logging.getLogger(__name__)
MOST = 16
"""Largest number of requests, of all releases, whose question and answer are kept at one time."""
_PROOF_PAUSE_SECONDS = 30.0
_NO_ANSWER = (DeadlineExceeded, EngineDead, NotFound, NotReady, QueueFull, TooManyRequests)
"""Errors that say nothing about the version."""

Compared = Callable[[Mapping[str, float] | None], None]
"""Takes the differences of a pair of answers; None if the next version was not asked."""


class Background:
    """Asks the next version after the old one has answered; drops requests if there is no room.

    Nothing is asked until `rehearsal` is set, nor after `stop`.
    """

    def __init__(self) -> None:
        self.rehearsal: Rehearsal | None = None
        self._open = 0
        self._tasks = set[asyncio.Task[None]]()

    def follow(self, shadow: Shadow, context: RequestContext, compared: Compared) -> None:
        """Repeat a request once it ends, if it is drawn and fewer than MOST are kept."""
        rehearsal = self.rehearsal
        if rehearsal is None or not shadow.asks(context, busy=rehearsal.busy):
            return
        if self._open >= MOST:
            compared(None)
            return
        self._open += 1
        context.extend(kept := shadow.place())
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
        kept: Kept,
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
        self, rehearsal: Rehearsal, exact: str, kept: Kept, compared: Compared
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


async def _answered(rehearsal: Rehearsal, exact: str, kept: Kept) -> Mapping[str, float] | None:
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
