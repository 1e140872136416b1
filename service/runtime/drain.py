"""Leaving the service without dropping what it has accepted."""

import asyncio
import logging
from collections.abc import Callable, Sequence

from service.admission.gate import Gate
from service.errors import NotReady
from service.runtime.parts import OpenRequests
from service.runtime.status import Phase, Status
from service.settings.tree import DrainSettings
from service.telemetry.lifecycle import LifecycleMetrics

_log = logging.getLogger(__name__)


class Drain:
    """Takes a service out of rotation, lets accepted requests finish, and stops it.

    First it is not ready and serves on, while load balancers take notice (`lame_duck_s`); work that
    no caller waits for ends (`stop_background`). Then new requests are refused, and those that are
    open have `budget_s` to finish. What is left after that ends with an error of its own, never as
    if it were complete, while the server stops: it gives clients time to read what they are sent.
    """

    def __init__(
        self,
        status: Status,
        requests: OpenRequests,
        gates: Sequence[Gate],
        settings: DrainSettings,
        metrics: LifecycleMetrics,
        stop_background: Callable[[], None] = lambda: None,
    ) -> None:
        self._status = status
        self._requests = requests
        self._gates = gates
        self._settings = settings
        self._metrics = metrics
        self._stop_background = stop_background
        self._task: asyncio.Task[None] | None = None

    def start(self, *, lame_duck: bool = True) -> None:
        """Begin; a second call changes nothing. To be called on the loop that serves."""
        if self._task is None:
            seconds = self._settings.lame_duck_s if lame_duck else 0.0
            self._status.phase = Phase.DRAINING
            self._stop_background()
            self._metrics.drain_started(seconds + self._settings.budget_s)
            self._task = asyncio.get_running_loop().create_task(self._run(seconds))

    async def _run(self, lame_duck_s: float) -> None:
        budget = self._settings.budget_s
        _log.info("draining: %g s until new requests are refused, then %g s", lame_duck_s, budget)
        await asyncio.sleep(lame_duck_s)
        self._requests.close(lambda: self._refusal(budget))
        try:
            async with asyncio.timeout(budget):
                await self._requests.wait_until_none()
            _log.info("drained")
        except TimeoutError:
            _log.warning("draining: %d requests did not finish in time", self._requests.count)
            for gate in self._gates:
                gate.close(lambda: self._refusal(budget, "before this answer was complete"))
        self._metrics.drain_ended()
        self._status.stop()

    def _refusal(self, seconds: float, when: str = "and takes no new requests") -> NotReady:
        return NotReady(
            f"This server is stopping {when}. Another one may answer.",
            code="draining",
            retry_after=seconds,
        )
