"""The engine's processes: their vital signs (from /proc on Linux) and CPU scheduling.

It also handles this process's signals while the process blocks for the engine's start.
"""

import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

from service.engine.contract import Vitals
from service.errors import Interrupted

_STATE, _USER_TICKS, _SYSTEM_TICKS = 0, 11, 12
"""Places in /proc/<pid>/stat after the command in brackets (proc_pid_stat(5))."""
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_WORKER = "VllmWorker"
"""Beginning of the names that vLLM gives its workers' processes."""


def in_worker() -> bool:
    """True in a worker's process of vLLM."""
    return multiprocessing.current_process().name.startswith(_WORKER)


class NewChildren:
    """The processes that multiprocessing starts from now on."""

    def __init__(self) -> None:
        self._before = {child.pid for child in multiprocessing.active_children()}

    def found(self) -> list[BaseProcess]:
        """Those that run."""
        children = multiprocessing.active_children()
        return [child for child in children if child.pid not in self._before]

    def terminate(self) -> None:
        """Ask them to end (SIGTERM)."""
        for child in self.found():
            child.terminate()


def read_vitals(pids: Iterable[int], *, loading: bool = False) -> Vitals | None:
    """CPU time of these processes and their children together;

    None if the system does not report it. `stopped` is true if a signal has stopped one of them.
    """
    family = {each for pid in pids for each in (pid, *_children(pid))}
    found = [fields for fields in map(_stat, family) if fields]
    if not found:
        return None
    ticks = sum(int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS]) for fields in found)
    stopped = any(fields[_STATE] == "T" for fields in found)
    return Vitals(ticks / _TICKS_PER_SECOND, stopped, loading)


def own_place() -> tuple[str, int]:
    """The node and the id of this process; a node is identified by its boot and pid namespace."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return "", os.getpid()
    return f"{boot}/{namespace}", os.getpid()


async def of_all_workers(llm: Any, method: str) -> list[Any]:
    """Call a method on all ranks' workers; `AsyncLLM.collective_rpc` calls the first rank's."""
    of_all = getattr(llm.engine_core, "call_utility_all_async", None)
    if of_all is None or llm.vllm_config.parallel_config.data_parallel_size == 1:
        return list(await llm.collective_rpc(method))
    ranks = await of_all("collective_rpc", method, None, (), None)
    return [answer for workers in ranks for answer in workers]


async def workers_here(llm: Any) -> list[int]:
    """The ids of an engine's worker processes on this node, whichever process started them."""
    here, _ = own_place()
    return [pid for node, pid in await of_all_workers(llm, "place") if node == here]


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [*map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    return []


def _stat(pid: int) -> list[str]:
    with suppress(OSError):
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return text.rpartition(")")[2].split()
    return []


class _Asked(BaseException):
    """A signal's request to end; it is no Exception, so that `except Exception` lets it pass."""


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted in the block at SIGTERM or SIGINT; only in the main thread.

    The block stops the event loop, so the loop's own signal handlers would not run.
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


_BEHIND = 10
"""Nice value of an encoder's engine, over the service's: a tenth of a core that both want."""


def give_way_to_service() -> None:
    """Keep this thread, and those that it starts, from preempting other processes when they wake.

    The engine's threads compute as long as there is work. The service's event loop runs briefly in
    between, and had to wait for them. With `SCHED_BATCH` a thread keeps its share of a core
    (sched(7)). Where the system forbids the call, nothing changes.
    """
    with suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))


def rank_behind_model(processes: Iterable[int]) -> None:
    """Give these processes a lower priority for CPU cores than the model's engine.

    The threads of the model wait for each other many times in each step. When an encoder's threads
    had equal priority, many requests to the encoder made each step several times as long. New
    threads inherit the value from the one that starts them (sched(7)).
    """
    value = min(19, os.getpriority(os.PRIO_PROCESS, 0) + _BEHIND)
    for process in processes:
        for thread in Path(f"/proc/{process}/task").glob("*"):
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, int(thread.name), value)
