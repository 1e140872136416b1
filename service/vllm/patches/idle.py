"""vLLM's idle processes poll on the CPU build, which costs other programs a tenth of a core.

A worker polls for a second after each step, also after the one that the watchdog gives to an idle
engine every few seconds. Each group of ranks has a thread of gloo's that wakes a hundred times a
second for ever.
"""

import multiprocessing
import os
import time
from typing import Any

USES = ("replaces vllm.distributed.device_communicators.shm_broadcast:SpinCondition",)

_CONDITION, _GROUP = "SleepingCondition", "SharingGroup"

_WORKER = "VllmWorker"
"""Beginning of the names that vLLM gives its workers' processes."""
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
    if not multiprocessing.current_process().name.startswith(_WORKER):
        return

    class SleepingCondition(vllms):  # type: ignore[misc, valid-type]
        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **{"busy_loop_s": _POLLS_FOR_S, **named})

        def wait(self, timeout_ms: int | None = None) -> None:
            if time.monotonic() - self.last_read < _AT_WORK_S:
                timeout_ms = min(_LOOK_AGAIN_MS, timeout_ms or _LOOK_AGAIN_MS)
            super().wait(timeout_ms)

    shm_broadcast.SpinCondition = SleepingCondition


def share_gloo_thread() -> None:
    """Have all groups of ranks of this process share one thread for their sockets.

    Does nothing twice, or where torch is told which interfaces to use.
    """
    from torch.distributed import distributed_c10d

    gloo = distributed_c10d.ProcessGroupGloo
    if gloo.__name__ == _GROUP or os.environ.get("GLOO_SOCKET_IFNAME"):
        return
    devices: list[Any] = []

    class SharingGroup(gloo):  # type: ignore[misc, valid-type]
        def __init__(self, store: Any, rank: int, size: int, timeout: Any) -> None:
            if not devices:
                devices.append(gloo.create_default_device())
            options = gloo._Options()
            options._devices, options._timeout = devices, timeout
            super().__init__(store, rank, size, options)

    distributed_c10d.ProcessGroupGloo = SharingGroup
