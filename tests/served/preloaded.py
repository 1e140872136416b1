"""The process that services are forked from: `tests/served/forked.py` starts it.

It begins with the variables of a seed (`service/vllm/cpu/forkserver.py`) and imports what a
service and its engine's processes import. A service is a fork of it, and its seed one of that.
"""

import gc
import json
import os
import runpy
import signal
import socket
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from multiprocessing import forkserver, util
from pathlib import Path
from typing import Any

from service.settings.tree import ModelSettings, Settings
from service.vllm.cpu.forkserver import (
    SEED_MODULES,
    seed_variables,
    variables_read_at_start,
)
from service.vllm.environment import apply_environment

_MODULES = (
    "service.app",
    "service.vllm.start",
    "service.vllm.encoder",
)
_PREPARED = "prepared"
MOST_BYTES = 1 << 18
"""Bound of a message, which holds the command and all variables of a service."""


def main(control: int, *prepared: str) -> None:
    """Prepare this process, and fork a service for each socket that is sent over `control`."""
    if not prepared:
        _begin_as_a_seed()
    for name in (*_MODULES, *SEED_MODULES):
        import_module(name)
    import setproctitle

    # As in `service/vllm/cpu/preloaded.py`.
    setproctitle.getproctitle()
    gc.collect()
    gc.freeze()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=control) as listening:
        while sent := socket.recv_fds(listening, 1, 1)[1]:
            if os.fork() == 0:
                break
            os.close(sent[0])
        else:
            os._exit(0)
    _serve(socket.socket(fileno=sent[0]))


def _begin_as_a_seed() -> None:
    """Begin this process anew with the variables that a seed on these cores begins with."""
    model = ModelSettings(name="any", path=Path("any"))
    apply_environment(Settings(model=model, engine={"enforce_eager": True}))
    os.environ.update(seed_variables())
    os.execv(sys.executable, [*sys.orig_argv, _PREPARED])


def _serve(asked: socket.socket) -> None:
    """Fork the service that is asked for, tell its number, and then how it ended."""
    command, log, variables, cores = json.loads(asked.recv(MOST_BYTES))
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    service = os.fork()
    if service:
        asked.send(str(service).encode())
        _, status = os.waitpid(service, 0)
        with suppress(BrokenPipeError):
            asked.send(str(os.waitstatus_to_exitcode(status)).encode())
        os._exit(0)
    asked.close()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    for number in (1, 2):
        os.dup2(output, number)
    os.close(output)
    os.sched_setaffinity(0, cores)
    util.spawnv_passfds = _Spawn()  # type: ignore[assignment]
    os.environ.clear()
    os.environ.update(variables)
    sys.argv = list(command)
    runpy.run_module(command[0], run_name="__main__", alter_sys=True)


class _Spawn:
    """multiprocessing's start of a process, which forks a fork server that may be forked here."""

    def __init__(self) -> None:
        self._began_with = variables_read_at_start()
        self._spawn: Any = util.spawnv_passfds

    def __call__(self, path: str, arguments: Sequence[str], kept: Sequence[int]) -> int:
        if (
            forkserver.__name__ not in arguments[-1]
            or variables_read_at_start() != self._began_with
        ):
            return int(self._spawn(path, arguments, kept))
        if child := os.fork():
            return child
        for number in map(int, os.listdir("/proc/self/fd")):
            if number > 2 and number not in kept:
                with suppress(OSError):
                    os.close(number)
        # What this process is a fork of holds it.
        forkserver._forkserver._lock = threading.Lock()  # type: ignore[attr-defined]
        try:
            exec(arguments[-1], {})
        finally:
            os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
