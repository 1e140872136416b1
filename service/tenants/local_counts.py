"""Counts of use in this process, for one replica alone and for times without the shared store."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from service.tenants.tenant import Quota

_SWEEP_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Window:
    """One window of a tenant's quota; windows begin at whole minutes and days of UTC."""

    quota: Quota
    key: str
    ends: float


class LocalCounts:
    """Counts by window: the shared store's last count, and the use not yet sent to the store.

    Without a store all use is counted here. Windows are forgotten some time after their end; the
    `clock` is seconds since 1970.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._told: Counter[Window] = Counter()
        self._owed: Counter[Window] = Counter()
        self._sent: Counter[Window] = Counter()
        self._swept = 0.0

    def add(self, window: Window, amount: int) -> int:
        """Count use that no store knows of; returns the count."""
        self._sweep()
        self._owed[window] += amount
        return self.known(window)

    def known(self, window: Window) -> int:
        """The count as far as this process knows it."""
        return self._told[window] + self.untold(window)

    def untold(self, window: Window) -> int:
        """Use that the store has not confirmed."""
        return self._owed[window] + self._sent[window]

    def send(self, window: Window) -> int:
        """Use to send to the store now; then call `confirm` or `keep` with the outcome."""
        amount = self._owed.pop(window, 0)
        self._sent[window] += amount
        return amount

    def keep(self, window: Window, sent: int) -> None:
        """Remember use that was sent and got no answer."""
        self._sent[window] -= sent
        self._owed[window] += sent

    def confirm(self, window: Window, sent: int, count: int) -> int:
        """Continue from the store's count; returns it plus the use not sent."""
        self._sweep()
        self._sent[window] -= sent
        self._told[window] = count
        return count + self.untold(window)

    def _sweep(self) -> None:
        now = self._clock()
        if now < self._swept + _SWEEP_SECONDS:
            return
        self._swept = now
        for counts in (self._told, self._owed, self._sent):
            for window in [window for window in counts if window.ends <= now]:
                del counts[window]
