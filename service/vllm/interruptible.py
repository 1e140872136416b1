"""Blocking work that a signal ends at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from service.errors import Interrupted


class _Asked(BaseException):
    """Passes through `except Exception`, as KeyboardInterrupt does."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted in the block at SIGTERM or SIGINT; only in the main thread.

    The event loop, whose signal handlers wait for their turn, stands still meanwhile.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(number: int, frame: FrameType | None) -> None:
        raise _Asked(number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    except _Asked as asked:
        raise Interrupted(asked.args[0]) from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
