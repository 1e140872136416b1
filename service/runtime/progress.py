"""Releases and batches under way, for the live view, which runs on a loop of its own."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from service.plugins.batches.batches import Batches
from service.plugins.batches.records import Batch
from service.plugins.rollouts.releases import Releases
from service.plugins.rollouts.summary import Summary

_BATCHES = 10


class UnderWay(NamedTuple):
    """Releases and batches; None where no folder is configured for them."""

    releases: Summary | None
    batches: Sequence[Batch] | None


class Progress:
    """Reads releases and batches on the loop that serves, for a caller on another loop."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, releases: Releases | None, batches: Batches | None
    ) -> None:
        self._loop = loop
        self._releases = releases
        self._batches = batches

    async def read(self) -> UnderWay:
        """Every plan, and the latest batches; raises Unavailable if their database fails."""
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(self._taken(), self._loop)
        )

    async def _taken(self) -> UnderWay:
        releases, batches = self._releases, self._batches
        return UnderWay(
            None if releases is None else releases.summary(),
            None if batches is None else await batches.latest(_BATCHES),
        )
