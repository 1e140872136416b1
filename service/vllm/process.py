"""Readings of the engine's processes (from /proc on Linux)."""

import multiprocessing
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service.engine.protocol import Vitals

_STATE, _USER_TICKS, _SYSTEM_TICKS = 0, 11, 12
"""Places in /proc/<pid>/stat after the command in brackets (proc_pid_stat(5))."""

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@contextmanager
def new_children() -> Iterator[list[int]]:
    """The processes that multiprocessing starts within the block, once it has ended."""
    before = _started()
    found: list[int] = []
    yield found
    found += sorted(_started() - before)


def _started() -> set[int]:
    return {child.pid for child in multiprocessing.active_children() if child.pid}


def read_vitals(pids: Iterable[int], *, loading: bool = False) -> Vitals | None:
    """CPU time of these processes and their children together; None if the system has none.

    `stopped` if one of them is stopped by a signal.
    """
    seconds, stopped, told = 0.0, False, False
    for each in {each for pid in pids for each in (pid, *_children(pid))}:
        fields = _stat(each)
        if fields is None:
            continue
        told = True
        ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
        seconds += ticks / _TICKS_PER_SECOND
        stopped |= fields[_STATE] == "T"
    return Vitals(seconds, stopped, loading) if told else None


def own_place() -> tuple[str, int]:
    """This process's node and its number there; the node is a boot and a namespace of numbers."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return "", os.getpid()
    return f"{boot}/{namespace}", os.getpid()


async def of_all_workers(llm: Any, method: str) -> list[Any]:
    """What each worker of each rank answers; `AsyncLLM.collective_rpc` gives the first rank's."""
    of_all = getattr(llm.engine_core, "call_utility_all_async", None)
    if of_all is None or llm.vllm_config.parallel_config.data_parallel_size == 1:
        return list(await llm.collective_rpc(method))
    ranks = await of_all("collective_rpc", method, None, (), None)
    return [answer for workers in ranks for answer in workers]


async def workers_here(llm: Any) -> list[int]:
    """The workers of an engine that run on this node, of whichever process they are children."""
    here, _ = own_place()
    return [pid for node, pid in await of_all_workers(llm, "place") if node == here]


def _children(pid: int) -> list[int]:
    try:
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    except OSError:
        return []


def _stat(pid: int) -> list[str] | None:
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
