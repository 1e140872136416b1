"""The highest rate at which a server meets its objectives."""

from collections.abc import Callable
from dataclasses import dataclass, field

# Below the first guess divided by this, the search gives up.
_HALVINGS = 8
_DOUBLINGS = 16


class RunFailed(Exception):
    """A run left no result, or one that cannot be used; the message says which."""


@dataclass(slots=True)
class Knee:
    """The highest rate that passed and the lowest that failed;

    None if not found. `stopped` is the reason if the search ended before both were found.
    """

    passed: float | None = None
    failed: float | None = None
    probes: list[tuple[float, bool]] = field(default_factory=list)
    stopped: str | None = None

    def note(self, rate: float, good: bool) -> bool:
        """Record whether a probe passed, and return that."""
        self.probes.append((rate, good))
        if good:
            self.passed = max(rate, self.passed or 0.0)
        else:
            self.failed = min(rate, self.failed or rate)
        return good

    def bracketed(self, precision: float) -> bool:
        """True if the two rates are within the wanted ratio."""
        if self.passed is None or self.failed is None:
            return False
        return self.failed / self.passed <= 1 + precision


def find_knee(passes: Callable[[float], bool], start: float, precision: float = 0.05) -> Knee:
    """Double (or halve) from `start` until the knee is bracketed, then bisect by ratio.

    `passes` is called with ever closer rates until the highest that passed and the lowest that
    failed differ by at most `precision`; the knee is between them. If it raises RunFailed, the
    search ends with what was found so far.
    """
    knee = Knee()
    try:
        _narrow(knee, passes, start, precision)
    except RunFailed as error:
        knee.stopped = str(error)
    return knee


def _narrow(knee: Knee, passes: Callable[[float], bool], rate: float, precision: float) -> None:
    if knee.note(rate, passes(rate)):
        for _ in range(_DOUBLINGS):
            rate *= 2
            if not knee.note(rate, passes(rate)):
                break
    else:
        for _ in range(_HALVINGS):
            rate /= 2
            if knee.note(rate, passes(rate)):
                break
    while knee.passed is not None and knee.failed is not None and not knee.bracketed(precision):
        rate = (knee.passed * knee.failed) ** 0.5
        knee.note(rate, passes(rate))
