"""Figures of /proc for real processes."""

import os
import signal
import sys
import time

from loadtests.processes import running, wait_until
from service.vllm.process import read_vitals


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def seconds(pid: int) -> float:
    seen = read_vitals([pid])
    assert seen is not None
    return seen.cpu_seconds


def test_a_process_that_computes_uses_time_and_one_that_is_stopped_says_so() -> None:
    with running(python("while True: pass")) as process:
        pid = process.pid
        began = seconds(pid)
        wait_until(lambda: seconds(pid) > began + 0.05, 300, "this")
        os.kill(pid, signal.SIGSTOP)
        wait_until(lambda: bool((seen := read_vitals([pid])) and seen.stopped), 300, "this")
        still = seconds(pid)
        time.sleep(0.1)
        assert seconds(pid) == still


def test_children_count() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with running(python(code)) as process:
        pid = process.pid
        began = seconds(pid)
        wait_until(lambda: seconds(pid) > began + 0.5, 300, "this")
        for child in _children(pid):
            os.kill(child, signal.SIGKILL)


def test_of_a_process_that_is_not_there_nothing_is_told() -> None:
    with running(python("")) as process:
        pid = process.pid
    assert read_vitals([pid]) is None
    assert read_vitals([]) is None


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]
