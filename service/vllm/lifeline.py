"""End of vLLM's processes when the process that started them has ended."""

import multiprocessing
import os
import signal
import threading
from multiprocessing.connection import wait

_NAME = "lifeline"


def end_with_parent() -> None:
    """Have this process killed once its parent has ended, whatever ended the parent.

    Without this an engine outlives a service that was killed, and keeps the memory (of a GPU, too)
    that the next start needs. A process that multiprocessing did not start stays as it is. Calling
    it again changes nothing.
    """
    parent = multiprocessing.parent_process()
    if parent is None or any(thread.name == _NAME for thread in threading.enumerate()):
        return
    watch = threading.Thread(target=_end_after, args=(parent.sentinel,), name=_NAME, daemon=True)
    watch.start()


def _end_after(sentinel: int) -> None:
    wait([sentinel])
    os.kill(os.getpid(), signal.SIGKILL)
