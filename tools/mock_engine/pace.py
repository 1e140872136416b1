"""The time between steps."""

import time


class Pace:
    """Steps at `rate` a second, or at once without one.

    A step that comes late, after a pause or of a busy machine, does not make the next ones hurry.
    """

    def __init__(self, rate: float | None) -> None:
        self._interval = 1 / rate if rate else 0.0
        self._due = 0.0

    def wait(self) -> None:
        """Sleep until the next step is due."""
        now = time.monotonic()
        if now < self._due:
            time.sleep(self._due - now)
            now = time.monotonic()
        late = now - self._due > self._interval
        self._due = (now if late else self._due) + self._interval
