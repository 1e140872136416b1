"""Scheduling of the engines' processes (CPU build), which share cores with the service."""

import multiprocessing
import os
from collections.abc import Iterable
from contextlib import suppress
from functools import partialmethod
from pathlib import Path

_WORKER = "VllmWorker"
"""Beginning of the names that vLLM gives its workers' processes."""

_POLLS_FOR_S = 0.1
"""Time for which a worker without a step polls; the next step comes within milliseconds."""

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


def sleep_without_work() -> None:
    """Have vLLM's worker sleep after 0.1 s without a step, where it polls its queue for a second.

    The watchdog gives an idle engine a step every few seconds, after which the worker took a third
    of a core. To wake it takes some milliseconds. Other processes keep vLLM's second: the engine's
    core waits for long steps, and its queue can miss the notice that ends a sleep.
    """
    from vllm.distributed.device_communicators.shm_broadcast import SpinCondition

    if multiprocessing.current_process().name.startswith(_WORKER):
        waiting = partialmethod(SpinCondition.__init__, busy_loop_s=_POLLS_FOR_S)
        SpinCondition.__init__ = waiting


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
