"""Services that are forked from one process which has imported all that a service imports.

A start of the one-layer model takes 22 s of a core, 16 of which import vLLM: in the service, and
in the seed of its engine's processes. Tests start dozens. A forked service runs its own command
line from the first line; what only a new interpreter does is left to those that begin afresh.
"""

import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from tests.served import preloaded
from tests.served.preloaded import MOST_BYTES


class Forked(subprocess.Popen[bytes]):
    """A forked server: another process than this is its parent, and tells how it ended."""

    def __init__(self, command: Sequence[str], told: socket.socket) -> None:
        self.args, self.returncode = command, None
        self.stdin = self.stdout = self.stderr = None
        self._told = told
        self.pid = int(told.recv(MOST_BYTES))

    def wait(self, timeout: float | None = None) -> int:
        """The exit code, as subprocess has it; TimeoutExpired if it does not end in time."""
        if self.returncode is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._told.recv(MOST_BYTES))
            self._told.close()
        return self.returncode

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        with suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None


class Forking:
    """The process that servers are forked from; it begins at the first, and ends with this one."""

    def __init__(self, folder: Path) -> None:
        self._log = folder / "preloaded.log"
        self._control: socket.socket | None = None

    def begin(self, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Forked:
        """Fork a module that runs as a program, with its output in the log.

        Libraries that read a variable when they are imported do not see it in `environment`.
        """
        ours, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._connected(), [b"."], [theirs.fileno()])
        log.touch()
        cores = sorted(os.sched_getaffinity(0))
        try:
            ours.send(json.dumps([command, str(log), dict(environment), cores]).encode())
            return Forked(command, ours)
        except (OSError, ValueError) as error:
            raise RuntimeError(f"no server was forked\n{self._log.read_text()[-4000:]}") from error

    def end(self) -> None:
        """End the process, if it began; servers that were forked go on."""
        if self._control:
            self._control.close()
            self._process.wait(60)

    def _connected(self) -> socket.socket:
        """The socket over which the process is asked."""
        if self._control is None:
            self._control, theirs = socket.socketpair(type=socket.SOCK_SEQPACKET)
            command = [sys.executable, "-m", preloaded.__name__, str(theirs.fileno())]
            with theirs, self._log.open("wb") as output:
                self._process = subprocess.Popen(
                    command, pass_fds=[theirs.fileno()], stdout=output, stderr=output
                )
        return self._control
