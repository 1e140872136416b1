"""How many sequences the engine is given at once."""

from collections import deque
from dataclasses import dataclass
from statistics import median

_SAMPLES = 256
_ENOUGH = 8
_STEPS = 32
_MOST_CUT = 0.5


@dataclass(frozen=True, slots=True)
class Targets:
    """The seconds that a healthy engine stays under, and how often to look.

    `token` is the time per output token of one sequence, `engine_wait` the time that the engine
    itself holds a request before its first step, `window` the time between two decisions. Raises
    ValueError for one that is not positive.
    """

    token: float = 0.25
    engine_wait: float = 0.5
    window: float = 1.0

    def __post_init__(self) -> None:
        if min(self.token, self.engine_wait, self.window) <= 0:
            raise ValueError(f"targets must be positive, got {self}")


class Limiter:
    """Additive increase, multiplicative decrease on delay, in [floor, ceiling].

    The rule is Breakwater's (Cho et al., OSDI 2020): below the target the limit grows by a step,
    above it it shrinks in proportion to the excess, at most by half; the delay is the worse of two,
    each as a multiple of its target. It starts at the ceiling, which is what the engine was
    configured to run, and grows only when all of it is in use. Medians over a window keep a few
    slow readers or one long stall from deciding for everybody. Decision 9
    (docs/decisions/0009-adaptive-concurrency.md) says why it is not a gradient. Raises ValueError
    unless 1 <= floor <= ceiling.
    """

    def __init__(self, ceiling: int, floor: int = 1, targets: Targets | None = None) -> None:
        if not 1 <= floor <= ceiling:
            raise ValueError(f"floor must be in [1, ceiling={ceiling}], got {floor}")
        self._floor = floor
        self._ceiling = ceiling
        self._targets = targets or Targets()
        self._limit = float(ceiling)
        self._since: float | None = None
        self._tokens: deque[float] = deque(maxlen=_SAMPLES)
        self._waits: deque[float] = deque(maxlen=_SAMPLES)

    @property
    def ceiling(self) -> int:
        """The most that the limit can be; setting it starts there."""
        return self._ceiling

    @ceiling.setter
    def ceiling(self, sequences: int) -> None:
        self._ceiling = sequences
        self._limit = float(sequences)

    @property
    def limit(self) -> int:
        """Sequences that the engine may run now."""
        return int(self._limit)

    def token_took(self, seconds: float) -> None:
        """Record the time per output token of one sequence."""
        self._tokens.append(seconds)

    def engine_waited(self, seconds: float) -> None:
        """Record how long the engine held a request before its first step."""
        self._waits.append(seconds)

    def update(self, now: float, in_use: int) -> None:
        """Decide once a window, given the slots taken.

        A window with fewer than eight samples goes on: no news is no decision. A cut is measured
        from the slots in use, which caused the delay: while those above a lowered limit still run,
        it is not lowered again on their account.
        """
        if self._since is None or now < self._since:
            self._since = now
        enough = len(self._tokens) + len(self._waits) >= _ENOUGH
        if now - self._since < self._targets.window or not enough:
            return
        delay = max(
            self._delay(self._tokens, self._targets.token),
            self._delay(self._waits, self._targets.engine_wait),
        )
        if delay > 1:
            self._limit = min(self._limit, in_use * max(1 - (delay - 1) / 2, _MOST_CUT))
        elif in_use >= self.limit:
            self._limit += max(1.0, self._ceiling / _STEPS)
        self._limit = min(max(self._limit, self._floor), self._ceiling)
        self._since = now
        self._tokens.clear()
        self._waits.clear()

    @staticmethod
    def _delay(samples: deque[float], target: float) -> float:
        return median(samples) / target if samples else 0.0
