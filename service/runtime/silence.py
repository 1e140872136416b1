"""Slow or stuck: how long an engine that has work to do may make no step."""

import math
from collections import deque
from collections.abc import Callable

from service.engine.protocol import Vitals

_LOOK_AFTER = 1 / 6
"""The part of the floor in which nothing is read: most steps are shorter."""
_SIGN_OF_LIFE_S = 0.05
_STEPS = 4.0
_MEMORY_S = 60.0
_LONGEST_LOAD_S = 600.0


class Silence:
    """Tells an engine whose step takes long from one that makes none.

    An engine is stuck when it has shown no sign of life for `floor` seconds, or for four times its
    longest step of the last minute if that is more; and when its step takes `ceiling` seconds (or
    `floor` if that is more) whatever it shows. Signs of life are its steps, CPU time of its
    processes (50 ms more: that much it gets however many share its cores), and an adapter that is
    being loaded: the engine makes no step meanwhile, so the ceiling counts from the load's end, for
    at most ten minutes. An engine that is stopped by a signal has `floor` seconds from its last
    sign.
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

        To be asked several times a second. `vitals` are read only after a sixth of the floor.
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
        """Start anew: the time until the next step is no step's."""
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
