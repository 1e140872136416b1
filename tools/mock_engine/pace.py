"""The time between steps."""

import os
import time
from pathlib import Path


class Pace:
    """Steps at a rate per second, or without a pause if there is no rate.

    If a step is late by more than an interval, later ones are delayed too: lost time is not caught
    up.
    """

    def __init__(self, rate: str) -> None:
        """Keep to `rate`: a number, a file that holds one, or nothing."""
        self._file = Path(rate) if os.sep in rate else None
        self._read_at = 0
        self._interval = 0.0 if self._file else _interval(rate)
        self._due = 0.0

    def wait(self) -> None:
        """Sleep until the next step is due."""
        self._follow()
        now = time.monotonic()
        if now < self._due:
            time.sleep(self._due - now)
            now = time.monotonic()
        late = now - self._due > self._interval
        self._due = (now if late else self._due) + self._interval

    def _follow(self) -> None:
        if self._file is None:
            return
        changed_at = self._file.stat().st_mtime_ns
        if changed_at != self._read_at:
            self._read_at = changed_at
            self._interval = _interval(self._file.read_text())


def _interval(rate: str) -> float:
    return 1 / float(rate) if rate.strip() else 0.0
