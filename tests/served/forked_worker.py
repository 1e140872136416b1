"""The program that compiles structures, forked: as a new one it takes two seconds of a core.

It is forked before its service has threads, waits to be asked for, and ends with the service.
"""

import os
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence

from service.vllm import grammar_worker

Start = Callable[[Sequence[int]], "subprocess.Popen[bytes]"]
_LOOK_SECONDS = 0.01
_MOST_SOCKETS = 64


class ForkedWorker(subprocess.Popen[bytes]):
    """The program grammar_worker.py in a child of this process that waits for its sockets."""

    def __init__(self) -> None:
        self.args, self.returncode = grammar_worker.__file__, None
        self.stdin = self.stdout = self.stderr = None
        self._asked, theirs = socket.socketpair()
        self.pid = os.fork()
        if self.pid == 0:
            self._asked.close()
            _run(theirs)
        theirs.close()

    def ask(self, sockets: Sequence[int]) -> None:
        """Let it begin with these sockets; its terms go to `stdin`."""
        reading, writing = os.pipe()
        with self._asked:
            socket.send_fds(self._asked, [b"."], [reading, *sockets])
        os.close(reading)
        self.stdin = os.fdopen(writing, "wb")

    def poll(self) -> int | None:
        """The exit code, None while it runs."""
        if self.returncode is None:
            ended, status = os.waitpid(self.pid, os.WNOHANG)
            self.returncode = os.waitstatus_to_exitcode(status) if ended else None
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit code; TimeoutExpired if it does not end in time."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            time.sleep(_LOOK_SECONDS)
        return code


def forked_first(start: Start) -> Start:
    """A start of the program that takes a fork made now the first time, and `start` later."""
    waiting = [ForkedWorker()]

    def begin(sockets: Sequence[int]) -> "subprocess.Popen[bytes]":
        if not waiting:
            return start(sockets)
        program = waiting.pop()
        program.ask(sockets)
        return program

    return begin


def _run(asked: socket.socket) -> None:
    """Become the program as soon as there are sockets; end if the service does."""
    try:
        os.setsid()
        with asked:
            sent = socket.recv_fds(asked, 1, _MOST_SOCKETS)[1]
        if sent:
            terms, *sockets = sent
            sys.stdin = os.fdopen(terms)
            grammar_worker.main(sockets)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)
