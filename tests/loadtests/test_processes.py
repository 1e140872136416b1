"""Ends of programs that have started others, and ports for them."""

import signal
import socket
import subprocess
import sys

import psutil
import pytest

from loadtests.processes import PATIENCE_S, free_port, wait_until

PROGRAM = """
import time
from loadtests.processes import running, unwind_on_sigterm
unwind_on_sigterm()
with running(["sleep", "600"]) as started:
    print(started.pid, flush=True)
    time.sleep(600)
"""


def test_a_program_that_is_terminated_ends_what_it_has_started() -> None:
    command = [sys.executable, "-c", PROGRAM]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        started = int(program.stdout.readline())
        program.send_signal(signal.SIGTERM)
        assert program.wait(PATIENCE_S) == 128 + signal.SIGTERM
    wait_until(lambda: not psutil.pid_exists(started), PATIENCE_S, "the end of what was started")


def test_a_free_port_stays_with_whom_it_was_given_to() -> None:
    port = free_port()
    with socket.socket() as other, pytest.raises(OSError, match="already in use"):
        other.bind(("127.0.0.1", port))
    for _ in range(2):  # the program that it is for may also end, and start again
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with socket.create_server(("127.0.0.1", port)):
            socket.create_connection(("127.0.0.1", port)).close()
