"""Figures of /proc for real processes."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from service.vllm_engine.process import read_vitals


@contextmanager
def running(code: str) -> Iterator[int]:
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def eventually(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def seconds(pid: int) -> float:
    seen = read_vitals([pid])
    assert seen is not None
    return seen.cpu_seconds


def test_a_process_that_computes_uses_time_and_one_that_is_stopped_says_so() -> None:
    with running("while True: pass") as pid:
        began = seconds(pid)
        eventually(lambda: seconds(pid) > began + 0.05)
        os.kill(pid, signal.SIGSTOP)
        eventually(lambda: bool((seen := read_vitals([pid])) and seen.stopped))
        still = seconds(pid)
        time.sleep(0.1)
        assert seconds(pid) == still


def test_children_count() -> None:
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'while True: pass'])"
    with running(f"{code}") as pid:
        began = seconds(pid)
        eventually(lambda: seconds(pid) > began + 0.5)
        for child in _children(pid):
            os.kill(child, signal.SIGKILL)


def test_of_a_process_that_is_not_there_nothing_is_told() -> None:
    with running("") as pid:
        pass
    assert read_vitals([pid]) is None
    assert read_vitals([]) is None


def _children(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(child) for child in file.read().split()]
