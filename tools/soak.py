"""The service under the `soak` scenario for hours, and how its memory moves: `make soak`.

Prints a line a minute, then the slopes of the memory over the second half, by least squares, and
the slots that are still taken. Exits with the load test's code (0 ok, 1 requests failed, 3
objectives missed, 4 invalid), or with 1 where memory grew by more than --slope or a slot was not
given back.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from loadtests.processes import end, unwind_on_sigterm
from tools.served.configuration import ENGINE, SMOLLM2
from tools.served.server import Server, named, running_server

Sample = tuple[float, float, float, float]
"""Seconds, and megabytes of the API process, of the engine's core and of its worker."""

_EVERY_SECONDS = 5
_PRINT_EVERY = 12
_SETTLE_SECONDS = 30


def main() -> int:
    """Serve, load, watch; returns the load test's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=7200)
    parser.add_argument("--rate", type=float, default=0.8, help="requests per second")
    parser.add_argument("--slope", type=float, default=1.0, help="most growth, in MB an hour")
    parser.add_argument("--out", default="loadtests/out/soak")
    arguments = parser.parse_args()
    unwind_on_sigterm()
    config = {
        "model": {"name": "smollm2-135m-instruct", "path": str(SMOLLM2.resolve())},
        "engine": ENGINE,
    }
    with tempfile.TemporaryDirectory() as folder, running_server(Path(folder), config) as server:
        command = [
            sys.executable, "-m", "loadtests", "run", "--scenario", "soak",
            "--host", server.url, "--metrics-url", f"{server.ops}/metrics",
            "--set", f"load.step_s={arguments.seconds}",
            "--set", f"load.arrivals.rate={arguments.rate}", "--out", arguments.out,
        ]  # fmt: skip
        load = subprocess.Popen(command)
        try:
            samples = _watch(server, load)
            slots = _slots(server)
        finally:
            end(load)
    slopes = _slopes(samples)
    print(
        "memory over the second half: API {:+.2f} MB/h, engine {:+.2f} MB/h, its worker {:+.2f} "
        "MB/h; slots still taken: {:.0f}".format(*slopes, slots),
        flush=True,
    )
    return load.wait() or int(max(slopes) > arguments.slope or slots > 0)


def _watch(server: Server, load: "subprocess.Popen[bytes]") -> list[Sample]:
    """Samples until the load has ended."""
    (worker,) = named("Worker", server.family())
    processes = [psutil.Process(server.process.pid), server.engine(), worker]
    started = time.monotonic()
    samples: list[Sample] = []
    while load.poll() is None:
        time.sleep(_EVERY_SECONDS)
        seconds = time.monotonic() - started
        api, engine, works = (process.memory_info().rss / 1e6 for process in processes)
        samples.append((seconds, api, engine, works))
        if len(samples) % _PRINT_EVERY == 0:
            line = "{:.0f} s: API {:.1f} MB, engine {:.1f} MB, its worker {:.1f} MB"
            print(line.format(*samples[-1]), flush=True)
    return samples


def _slots(server: Server) -> float:
    """Sequences that hold a slot, once those that ended late have had time to give theirs back."""
    until = time.monotonic() + _SETTLE_SECONDS
    while (taken := server.metric("inference_requests_in_flight")) and time.monotonic() < until:
        time.sleep(1)
    return taken


def _slopes(samples: list[Sample]) -> tuple[float, ...]:
    """Megabytes an hour of each process, over the second half."""
    half = np.array(samples[len(samples) // 2 :])
    hours = half[:, 0] / 3600
    return tuple(float(np.polyfit(hours, megabytes, 1)[0]) for megabytes in half[:, 1:].T)


if __name__ == "__main__":
    sys.exit(main())
