"""Scheduling of the engine's processes (CPU build), which share cores with the service."""

import os
from contextlib import suppress


def give_way_to_service() -> None:
    """Have this thread, and those that it starts, not preempt another process when they wake.

    The engine's threads compute for as long as there is work. The service's loop runs for moments
    between, and waited for them. A thread of `SCHED_BATCH` has the same share of a core as before
    (sched(7)). Where the system forbids the call, nothing changes.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
