"""Progress of a transfer: a bar on a terminal, a line now and then in a log."""

import logging
import sys
import time
from typing import Never, Self

from tqdm import tqdm

_LOG = logging.getLogger(__name__)
_LINE_EVERY_S = 10.0


class Progress:
    """Progress of one file, of which `done` bytes are there already; `total` None is unknown."""

    def __init__(self, what: str, done: int, total: int | None) -> None:
        self._what, self._done, self._total = what, done, total
        self._next = time.monotonic() + _LINE_EVERY_S
        self._bar: tqdm[Never] = tqdm(
            desc=what,
            total=total,
            initial=done,
            unit="B",
            unit_scale=True,
            leave=False,
            disable=not sys.stderr.isatty(),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def add(self, count: int) -> None:
        """Count bytes that have arrived."""
        self._done += count
        self._bar.update(count)
        if self._bar.disable and time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY_S
            whole = "" if self._total is None else f" of {self._total / 1e6:,.0f}"
            _LOG.info("%s: %s%s MB", self._what, f"{self._done / 1e6:,.0f}", whole)
