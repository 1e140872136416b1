"""The service under the `soak` scenario for hours, and how its memory moves: `make soak`.

Prints a line a minute and the slope of each process's memory over the second half, by least
squares. Exits with the load test's code: 0 ok, 1 requests failed, 3 objectives missed, 4 invalid.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from tests.engine.conftest import ENGINE, SMOLLM2
from tests.engine.server import Server, running_server

_EVERY_SECONDS = 5
_PRINT_EVERY = 12


def main() -> int:
    """Serve, load, watch; returns the load test's exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=int, default=7200)
    parser.add_argument("--rate", type=float, default=0.8, help="requests per second")
    parser.add_argument("--out", default="loadtests/out/soak")
    arguments = parser.parse_args()
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
        samples = _watch(server, load)
    print(_slopes(samples), flush=True)  # noqa: T201 - the script's answer
    return load.wait()


def _watch(server: Server, load: "subprocess.Popen[bytes]") -> list[tuple[float, float, float]]:
    """Seconds, and megabytes of the API process and of the engine, until the load has ended."""
    api, engine = psutil.Process(server.process.pid), server.engine()
    started = time.monotonic()
    samples: list[tuple[float, float, float]] = []
    while load.poll() is None:
        time.sleep(_EVERY_SECONDS)
        seconds = time.monotonic() - started
        samples.append((seconds, _megabytes(api), _megabytes(engine)))
        if len(samples) % _PRINT_EVERY == 0:
            line = "{:.0f} s: API {:.1f} MB, engine {:.1f} MB".format(*samples[-1])
            print(line, flush=True)  # noqa: T201 - progress on long work
    return samples


def _megabytes(process: psutil.Process) -> float:
    return float(process.memory_info().rss) / 1e6


def _slopes(samples: list[tuple[float, float, float]]) -> str:
    half = np.array(samples[len(samples) // 2 :])
    hours = half[:, 0] / 3600
    api, engine = (np.polyfit(hours, half[:, column], 1)[0] for column in (1, 2))
    return f"memory over the second half: API {api:+.1f} MB/h, engine {engine:+.1f} MB/h"


if __name__ == "__main__":
    sys.exit(main())
