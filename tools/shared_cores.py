"""Measure the throughput of this service, and of vLLM's server, on cores that others use too."""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from loadtests.peers import MODEL, MODEL_FOLDER, Server, ours, theirs
from loadtests.processes import running, unwind_on_sigterm
from tools.command_line import command_line
from tools.frontend.cases import Ask
from tools.frontend.client import Load, rates

SIDES = ("service", "vllm")
CASES = ("quiet", "busy", "idle", "together", "unbound")
"""A server alone; beside a program with a busy thread for each core; beside an idle server; with a
second server that is asked, too; a server alone that is not bound to cores."""

BUSY = (
    sys.executable,
    "-c",
    "import hashlib, os, threading\n"
    "def compute(): hashlib.pbkdf2_hmac('sha256', b'', b'', 1 << 30)\n"
    "for _ in os.sched_getaffinity(0): threading.Thread(target=compute).start()\n",
)
"""A program that keeps all cores busy."""
_BINDING = "VLLM_CPU_OMP_THREADS_BIND"
_WARM_S = 2.0
_ASK = Ask(
    "/v1/chat/completions",
    {
        "model": MODEL,
        "messages": [{"role": "user", "content": "Tell me a long story about a lighthouse."}],
        "max_tokens": 128,
        "ignore_eos": True,
        "stream": True,
    },
)

Rates = dict[str, list[float]]
"""Tokens/s of each round, by case."""


@dataclass(frozen=True)
class Bench:
    """What is measured of each server: how many chats at a time, for how long, how often."""

    model: Path
    binding: str
    streams: int
    seconds: float
    rounds: int
    idle_seconds: float

    def rate(self, *servers: Server) -> float:
        """Tokens/s of servers together, each with as many chats at a time."""
        ports = [int(each.url.rpartition(":")[2]) for each in servers]
        loads = [Load(port, _ASK.request(""), self.streams, sys.maxsize) for port in ports]
        return sum(rates(loads, _WARM_S, self.seconds))

    @contextmanager
    def server(self, side: str, binding: str) -> Iterator[Server]:
        """A warm server, which the scheduler takes for a program of its own."""
        start = ours if side == "service" else theirs
        with start(self.model, variables={_BINDING: binding}, apart=True) as server:
            self.rate(server)
            yield server

    def measure(self, side: str, cases: Sequence[str]) -> tuple[float, Rates]:
        """The share of a core that an idle server takes, and the rates of the cases."""
        found: Rates = {case: [] for case in cases}
        with self.server(side, self.binding) as first:
            idle = self._idle(first)
            for _ in range(self.rounds):
                if "quiet" in cases:
                    found["quiet"].append(self.rate(first))
                if "busy" in cases:
                    with running(BUSY, start_new_session=True):
                        found["busy"].append(self.rate(first))
            if {"idle", "together"} & set(cases):
                with self.server(side, self.binding) as second:
                    for _ in range(self.rounds):
                        if "idle" in cases:
                            found["idle"].append(self.rate(first))
                        if "together" in cases:
                            found["together"].append(self.rate(first, second))
        if "unbound" in cases:
            with self.server(side, "nobind") as unbound:
                found["unbound"] = [self.rate(unbound) for _ in range(self.rounds)]
        return idle, found

    def _idle(self, server: Server) -> float:
        time.sleep(_WARM_S)
        before = _cpu_seconds(server)
        time.sleep(self.idle_seconds)
        return (_cpu_seconds(server) - before) / self.idle_seconds


def _cpu_seconds(server: Server) -> float:
    """CPU time of all processes of a server so far."""
    process = psutil.Process(server.process.pid)
    return sum(sum(each.cpu_times()[:2]) for each in (process, *process.children(recursive=True)))


def told(side: str, idle: float, found: Mapping[str, Sequence[float]]) -> str:
    """The figures as lines of text; ratios are of the medians, to the first case."""
    lines = [f"{side}: an idle server takes {idle:.1%} of a core"]
    first = statistics.median(next(iter(found.values())))
    for case, rounds in found.items():
        ratio = statistics.median(rounds) / first
        shown = " ".join(f"{each:.0f}" for each in rounds)
        lines.append(f"{side}: {case}: {shown} tokens/s, {ratio:.2f}")
    return "\n".join(lines)


def main() -> None:
    """Measure one side after the other, and print the figures of each."""
    options = _parser().parse_args()
    unwind_on_sigterm()
    bench = Bench(
        options.model,
        options.binding,
        options.streams,
        options.seconds,
        options.rounds,
        options.idle_seconds,
    )
    for side in options.sides:
        print(told(side, *bench.measure(side, options.cases)), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = command_line("tools.shared_cores", __doc__ or "")
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER, help="folder")
    parser.add_argument("--sides", nargs="+", choices=SIDES, default=SIDES, help="default: both")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="default: all")
    own = ",".join(map(str, sorted(os.sched_getaffinity(0))))
    parser.add_argument(
        "--binding", default=own, help="cores of the servers (default: all), or nobind"
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds of every case")
    parser.add_argument("--seconds", type=float, default=8, help="seconds of a measurement")
    parser.add_argument("--streams", type=int, default=8, help="chats at a time")
    parser.add_argument("--idle-seconds", type=float, default=20, help="to measure an idle server")
    return parser


if __name__ == "__main__":
    main()
