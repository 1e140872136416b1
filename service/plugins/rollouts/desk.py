"""Releases for callers on other threads, such as the operations port."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from service.plugins.feedback.feedback import Feedback
from service.plugins.rollouts.contest import Action
from service.plugins.rollouts.releases import Releases
from service.plugins.rollouts.summary import Summary

Result = TypeVar("Result")


class ReleaseDesk:
    """Asks the releases on the loop that serves; blocks the caller's thread, not that loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, releases: Releases, feedback: Feedback
    ) -> None:
        self._loop = loop
        self._releases = releases
        self._feedback = feedback

    def summary(self) -> dict[str, Any]:
        """Every plan with its tests, the last changes, and feedback by version, as JSON."""

        async def taken() -> tuple[Summary, list[dict[str, Any]]]:
            return self._releases.summary(), self._feedback.told()

        summary, feedback = self._run(taken())
        return summary.told() | {"feedback": feedback}

    def act(self, name: str, action: Action, person: str) -> dict[str, Any]:
        """Do what a person asks; raises what `Releases.act` raises."""
        return self._run(self._releases.act(name, action, person)).told()

    def _run(self, asked: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result()
