"""Tells a slow engine from a stuck one by the time without a step."""

import asyncio
import logging
import math
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from service.admission.controller import AdmissionController
from service.engine.contract import Pulse, Vitals
from service.errors import EngineDead, EngineStalled, ServiceError
from service.runtime.status import Status
from service.settings.tree import WatchdogSettings

_LOOK_AFTER = 1 / 6
"""Share of the floor in which no vitals are read: most steps are shorter."""
_SIGN_OF_LIFE_S = 0.05
_STEPS = 4.0
_MEMORY_S = 60.0
_LONGEST_LOAD_S = 600.0


class Silence:
    """Distinguishes an engine with a long step from one that is stuck.

    An engine is stuck if it has shown no sign of life for `floor` seconds or, if this is longer,
    for four times its longest step of the last minute. Despite signs of life it is also stuck if a
    step takes longer than the larger of `ceiling` and `floor` seconds. Signs of life are a step, 50
    ms more CPU time of its processes (a running process gets that much even on shared cores), and
    the loading of an adapter. During a load the engine makes no step, so the ceiling counts from
    the end of the load; a load may take at most ten minutes. An engine that a signal has stopped
    has `floor` seconds from its last sign of life.
    """

    def __init__(self, floor: float, ceiling: float) -> None:
        self._floor = floor
        self._ceiling = max(floor, ceiling)
        self._moved = math.inf
        self._steps: deque[tuple[float, float]] = deque()
        self._cpu_seconds: float | None = None
        self._alive = 0.0
        self._loading = -math.inf

    def too_long(self, now: float, moved: float, vitals: Callable[[], Vitals | None]) -> bool:
        """True if an engine is stuck that last made a step, or was given work, at `moved`.

        Call it several times a second. `vitals` is called only after a sixth of `floor`.
        """
        if moved != self._moved:
            self._remember(now, moved - self._moved)
            self._moved, self._cpu_seconds, self._alive = moved, None, moved
        if now - moved < _LOOK_AFTER * self._floor:
            return False
        seen = vitals()
        if seen is not None and not seen.stopped:
            self._notice(now, seen)
        allowed = self._floor if seen is not None and seen.stopped else self._allowed(now)
        if now - self._alive >= allowed or now - moved >= max(self._ceiling, _LONGEST_LOAD_S):
            return True
        return now - max(moved, self._loading) >= self._ceiling

    def forget(self) -> None:
        """Forget the last step, so that the time until the next one is not its duration."""
        self._moved = math.inf

    def _remember(self, now: float, seconds: float) -> None:
        if _STEPS * seconds > self._floor:
            self._steps.append((now, seconds))
        while self._steps and self._steps[0][0] < now - _MEMORY_S:
            self._steps.popleft()

    def _notice(self, now: float, seen: Vitals) -> None:
        if self._cpu_seconds is None:
            self._cpu_seconds = seen.cpu_seconds
        if seen.loading:
            self._loading = now
        if seen.loading or seen.cpu_seconds - self._cpu_seconds >= _SIGN_OF_LIFE_S:
            self._alive, self._cpu_seconds = now, seen.cpu_seconds

    def _allowed(self, now: float) -> float:
        recent = [seconds for at, seconds in self._steps if at >= now - _MEMORY_S]
        return min(max(self._floor, _STEPS * max(recent, default=0.0)), self._ceiling)


_log = logging.getLogger(__name__)

_TICK_SECONDS = 0.25
_LATE_TICK_SECONDS = 1.0


class Watchdog:
    """Judges the engine by its steps, not by what it says of itself.

    An engine with work makes a step every few milliseconds, however full it is. An idle engine gets
    a probe step every `probe_s` seconds. An engine that is silent for too long (`Silence`) is
    stalled: waiting and running requests end with EngineStalled, and the service is not ready until
    the engine makes a step again. If the engine's process ends, so does the service.
    """

    def __init__(
        self,
        name: str,
        engine: Pulse,
        admission: AdmissionController,
        status: Status,
        settings: WatchdogSettings,
    ) -> None:
        self._name = name
        self._engine = engine
        self._admission = admission
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
            self._admission.close(EngineDead.midway)
            self._status.stop()
            return True
        return False

    def _look(self, now: float) -> None:
        if self._probe is not None and self._probe.done():
            self._probe = None
        # A request that holds a slot while its client reads nothing gives the engine no work.
        wanted = self._admission.engine_wanted
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
            self._admission.open()
        elif now - self._stalled_since >= self._settings.restart_s:
            self._status.lost.add(self._name)

    def _stall(self, now: float, seconds: float) -> None:
        _log.critical("the engine of %s has made no step for %.1f s", self._name, seconds)
        self._stalled_since = now
        self._status.stalled.add(self._name)
        self._admission.close(_stalled)
        if self._probe is None:
            self._probe = asyncio.create_task(self._take_a_step())

    async def _take_a_step(self) -> None:
        with suppress(ServiceError):  # an engine that has ended is noticed by the next look
            await self._engine.probe()


def _stalled() -> ServiceError:
    return EngineStalled("The engine has work and makes no step.", retry_after=10)
