"""Ends of programs that have started others."""

import signal
import subprocess
import sys

import psutil

from loadtests.processes import PATIENCE_S, wait_until

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
