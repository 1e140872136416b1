"""Scheduling of the engines' processes (CPU build), which share cores with the service."""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

_BEHIND = 10
"""Nice value of an encoder's engine, over the service's: a tenth of a core that both want."""


def give_way_to_service() -> None:
    """Have this thread, and those that it starts, not preempt another process when they wake.

    The engine's threads compute for as long as there is work. The service's loop runs for moments
    between, and waited for them. A thread of `SCHED_BATCH` has the same share of a core as before
    (sched(7)). Where the system forbids the call, nothing changes.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def rank_behind_model(processes: Iterable[int]) -> None:
    """Let the model's engine have the cores before these processes, by their numbers.

    A token of the model is a step, in which threads wait for each other many times. Where an
    encoder's threads had the same share of the cores, a flood of it made each step several times
    as long. Threads that start later take the value from the one that starts them (sched(7)).
    """
    value = min(19, os.getpriority(os.PRIO_PROCESS, 0) + _BEHIND)
    for process in processes:
        for thread in Path(f"/proc/{process}/task").glob("*"):
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), value)
