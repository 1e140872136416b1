"""Waits of vLLM's processes on the CPU build, and what an idle service costs."""

import subprocess
import sys

import psutil
import pytest

from tests.served.server import Server

_PROGRAM = """
import multiprocessing, time
from datetime import timedelta

def look():
    from vllm.distributed.device_communicators.shm_broadcast import MessageQueue
    from service.vllm.patches.idle import sleep_without_work
    for _ in range(2):
        sleep_without_work()
    queue = MessageQueue(1, 1, max_chunk_bytes=64, max_chunks=1)
    reader = MessageQueue.create_from_handle(queue.export_handle(), 0)
    condition, told = reader._spin_condition, []
    condition.poller.poll = lambda timeout: told.append(timeout) or []
    for since in (0, 0.5, 60):
        condition.last_read = time.monotonic() - since
        condition.wait(5000)
    print(*told, flush=True)

import vllm
for name in ("VllmWorker-0", "EngineCore"):
    process = multiprocessing.get_context("fork").Process(target=look, name=name)
    process.start()
    process.join()
"""


def run(program: str) -> list[float]:
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [*map(float, done.stdout.split())]


def test_only_a_worker_soon_sleeps_and_a_notice_that_vllm_drops_costs_milliseconds() -> None:
    # Without a message for no time, half a second and a minute: the sleeps, at most, in ms.
    worker, engine = [10, 5000], [5000]
    assert run(_PROGRAM) == [*worker, *engine]


@pytest.mark.timing
def test_an_idle_service_takes_at_most_three_percent_of_a_core(tiny: Server) -> None:
    import time

    family = [psutil.Process(tiny.process.pid), *tiny.family()]
    time.sleep(2)
    before = sum(sum(each.cpu_times()[:2]) for each in family)
    time.sleep(20)
    assert sum(sum(each.cpu_times()[:2]) for each in family) - before < 0.03 * 20
