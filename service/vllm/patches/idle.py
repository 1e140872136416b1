"""vLLM's idle processes poll on the CPU build, which costs other programs a tenth of a core.

A worker polls for a second after each step, also after the one that the watchdog gives to an idle
engine every ten seconds.
"""

import time
from typing import Any

from service.vllm.process import in_worker

USES = ("replaces vllm.distributed.device_communicators.shm_broadcast:SpinCondition",)

_CONDITION = "SleepingCondition"

_POLLS_FOR_S = 0.01
"""Time for which a worker polls after its last message; the next step comes within milliseconds."""
_LOOK_AGAIN_MS = 10
"""Longest sleep without a look. The writer drops a notice that follows another within about a
millisecond, even if that one has been read (vLLM itself looks every 5 s)."""
_AT_WORK_S = 1.0
"""Time after its last message for which a worker expects another."""


def sleep_without_work() -> None:
    """Have vLLM's worker sleep soon after a step; does nothing in other processes or twice.

    The engine's core keeps vLLM's second: it waits for long steps.
    """
    from vllm.distributed.device_communicators import shm_broadcast

    vllms = shm_broadcast.SpinCondition
    if vllms.__name__ == _CONDITION:
        return
    if not in_worker():
        return

    class SleepingCondition(vllms):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **{"busy_loop_s": _POLLS_FOR_S, **named})

        def wait(self, timeout_ms: int | None = None) -> None:
            if time.monotonic() - self.last_read < _AT_WORK_S:
                timeout_ms = min(_LOOK_AGAIN_MS, timeout_ms or _LOOK_AGAIN_MS)
            super().wait(timeout_ms)

    shm_broadcast.SpinCondition = SleepingCondition
