"""Notices an engine that has ended or no longer moves."""

import asyncio
import logging
import time
from contextlib import suppress

from service.admission.gate import Gate
from service.engine.protocol import Pulse
from service.errors import EngineDead, EngineStalled, ServiceError
from service.runtime.silence import Silence
from service.runtime.status import Status
from service.settings.tree import WatchdogSettings

_log = logging.getLogger(__name__)

_TICK_SECONDS = 0.25
_LATE_TICK_SECONDS = 1.0


class Watchdog:
    """Judges the engine by its steps, not by what it says of itself.

    An engine with work to do makes a step every few milliseconds, however full it is; an idle one
    is given a step to make every `probe_s`. One that is silent for too long (`Silence`) is stalled:
    requests that wait or run end with EngineStalled, and the service is not ready until the engine
    makes a step again. One that has ended ends the service.
    """

    def __init__(
        self,
        name: str,
        engine: Pulse,
        gate: Gate,
        status: Status,
        settings: WatchdogSettings,
    ) -> None:
        self._name = name
        self._engine = engine
        self._gate = gate
        self._status = status
        self._settings = settings
        self._silence = Silence(settings.stall_s, settings.longest_step_s)
        self._probe: asyncio.Task[None] | None = None
        self._busy_since: float | None = None
        self._stalled_since: float | None = None

    async def run(self) -> None:
        """Watch until the engine ends, or for ever."""
        ticked = time.monotonic()
        try:
            while not await self._engine_ended():
                now = time.monotonic()
                if now - ticked > _LATE_TICK_SECONDS and self._busy_since is not None:
                    self._busy_since = now  # this process stood still, and saw nothing
                    self._silence.forget()
                ticked = now
                self._look(now)
                await asyncio.sleep(_TICK_SECONDS)
        finally:
            if self._probe is not None:
                self._probe.cancel()

    async def _engine_ended(self) -> bool:
        try:
            await self._engine.check()
        except EngineDead as error:
            _log.critical("the engine of %s has ended; so does the service", self._name)
            self._status.failure = error
            self._gate.close(_dead)
            self._status.stop()
            return True
        return False

    def _look(self, now: float) -> None:
        if self._probe is not None and self._probe.done():
            self._probe = None
        # A request that holds a slot while its client reads nothing gives the engine no work.
        wanted = self._gate.engine_wanted
        if not wanted and self._probe is None:
            self._busy_since = None
            if now - self._engine.last_step >= self._settings.probe_s:
                self._probe = asyncio.create_task(self._take_a_step())
        if self._busy_since is None and (wanted or self._probe):
            self._busy_since = now
        self._judge(now)

    def _judge(self, now: float) -> None:
        if self._stalled_since is None:
            moved = max(self._engine.last_step, self._busy_since or now)
            if self._silence.too_long(now, moved, self._engine.vitals):
                self._stall(now, now - moved)
        elif self._engine.last_step > self._stalled_since:
            seconds = now - self._stalled_since
            _log.warning("the engine of %s makes steps again after %.1f s", self._name, seconds)
            self._stalled_since = self._busy_since = None
            self._silence.forget()
            self._status.stalled.discard(self._name)
            self._status.lost.discard(self._name)
            self._gate.open()
        elif now - self._stalled_since >= self._settings.restart_s:
            self._status.lost.add(self._name)

    def _stall(self, now: float, seconds: float) -> None:
        _log.critical("the engine of %s has made no step for %.1f s", self._name, seconds)
        self._stalled_since = now
        self._status.stalled.add(self._name)
        self._gate.close(_stalled)
        if self._probe is None:
            self._probe = asyncio.create_task(self._take_a_step())

    async def _take_a_step(self) -> None:
        with suppress(ServiceError):  # an engine that has ended is noticed by the next look
            await self._engine.probe()


def _dead() -> ServiceError:
    return EngineDead.midway()


def _stalled() -> ServiceError:
    return EngineStalled("The engine has work and makes no step.", retry_after=10)
