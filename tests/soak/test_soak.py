"""The service under the `soak` scenario for hours, and how its memory moves: `make soak`.

First fills the worker's cache of compiled products and takes the largest steps, for which mixed
requests need hours (docs/howto/capacity.md, "Memory over time"). Then prints a line a minute, at
the end the slopes of the memory over the second half, by least squares, and the slots that are
still taken. Fails with the load test, where memory grew by more than --slope, and where a slot was
not given back.

    make soak OPTIONS="--seconds 600"
"""

import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from loadtests.load.text import Segment
from loadtests.processes import end
from tests.options import check_options, given
from tests.served.configuration import ENGINE, SMOLLM2
from tests.served.server import Server, named, running_server

pytestmark = [pytest.mark.soak, pytest.mark.timeout(0)]

Sample = tuple[float, float, float, float]
"""Seconds, and megabytes of the API process, of the engine's core and of its worker."""

_LENGTHS = range(1, 301)
"""Tokens of the steps that fill the caches: 256 sizes of the four shapes of SmolLM2's layers are
the 1,024 products that `cpu.compiled_products` keeps by default."""
_OFTEN = 16
"""Sizes that come again and again, as those of decoding: vLLM keeps the last 32 of each shape by
itself, and oneDNN, which is not asked for these, drops its own."""
_TEXTS = 64
"""Texts of a batch: twice as many as the engine's sequences."""
_LEAST_TOKEN, _TOKENS = 1000, 40_000
"""Plain tokens of SmolLM2, from the first to before the last."""

_EVERY_SECONDS = 5
_PRINT_EVERY = 12
_SETTLE_SECONDS = 30


def test_memory_stays_and_every_slot_is_given_back(tmp_path: Path) -> None:
    parser = check_options("soak", __doc__)
    parser.add_argument("--seconds", type=int, default=7200)
    parser.add_argument("--rate", type=float, default=0.8, help="requests per second")
    parser.add_argument("--slope", type=float, default=1.0, help="most growth, in MB an hour")
    parser.add_argument("--out", default="loadtests/out/soak")
    options = given(parser)
    config = {
        "model": {"name": "smollm2-135m-instruct", "path": str(SMOLLM2.resolve())},
        "engine": ENGINE,
    }
    with running_server(tmp_path, config) as server:
        _fill(server)
        command = [
            sys.executable, "-m", "loadtests", "run", "--scenario", "soak",
            "--host", server.url, "--metrics-url", f"{server.ops}/metrics",
            "--set", f"load.step_s={options.seconds}",
            "--set", f"load.arrivals.rate={options.rate}", "--out", options.out,
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
    assert load.wait() == 0, "1: requests failed; 3: objectives missed; 4: not valid"
    assert max(slopes) <= options.slope
    assert slots == 0


def _fill(server: Server) -> None:
    """Have a step of each length, by prompts that share no beginning, and then the largest."""
    tokens = random.Random(0)
    for length in _LENGTHS:
        for size in (length, 1 + length % _OFTEN):
            prompt = tokens.choices(range(_LEAST_TOKEN, _TOKENS), k=size)
            body = {"model": server.model, "prompt": prompt, "max_tokens": 1}
            server.post("/v1/completions", body).raise_for_status()
        if length % 50 == 0 or length == 1:
            _tell(server, f"steps of 1 to {length} tokens")
    for length in (8, 300):  # steps of many sequences, and of many tokens
        texts = [Segment((length, text), length).text() for text in range(_TEXTS)]
        labels = ["positive", "negative", "neutral"]
        body = {"model": server.model, "input": texts, "candidate_labels": labels}
        server.post("/v1/classify", body).raise_for_status()
        _tell(server, f"{_TEXTS} texts of {length} words")


def _tell(server: Server, after: str) -> None:
    megabytes = _worker(server).memory_info().rss / 1e6
    print(f"{after}: its worker {megabytes:.1f} MB", flush=True)


def _worker(server: Server) -> psutil.Process:
    (worker,) = named("Worker", server.family())
    return worker


def _watch(server: Server, load: "subprocess.Popen[bytes]") -> list[Sample]:
    """Samples until the load has ended."""
    processes = [psutil.Process(server.process.pid), server.engine(), _worker(server)]
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
