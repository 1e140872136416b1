"""Measure how long this service takes until it is ready, quiet and beside a busy program.

vLLM's own server is started in turns with it, with the same model alone: without adapters,
encoders and proofs. A first start, which records proofs that are not recorded yet, is told apart.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from loadtests.peers import Model, theirs
from loadtests.processes import free_port, running, served, unwind_on_sigterm, wait_until
from service.settings.load import load_settings
from tools.command_line import command_line
from tools.shared_cores import BUSY

CASES = ("quiet", "busy")
SIDES = ("service", "vllm")
_SECONDS = 600
_EVERY = 0.5


def main() -> None:
    """Start both servers in turns, and print the seconds of each start, and the medians."""
    options = _parser().parse_args()
    unwind_on_sigterm()
    print(f"service: first start: {_seconds(service(options.config)):.1f} s", flush=True)
    for case in options.cases:
        print(told(case, measured(case, options.config, options.rounds)), flush=True)


def measured(case: str, config: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each start of both servers, in turns, quiet or beside a busy program."""
    found: dict[str, list[float]] = {side: [] for side in SIDES}
    with running(BUSY, start_new_session=True) if case == "busy" else nullcontext():
        for _ in range(rounds):
            found["service"].append(_seconds(service(config)))
            found["vllm"].append(_seconds(theirs_alone(config)))
    return found


def told(case: str, found: dict[str, list[float]]) -> str:
    """The figures as lines of text; the ratio is of the medians, to vLLM's server."""
    theirs = statistics.median(found["vllm"])
    lines = []
    for side, seconds in found.items():
        median = statistics.median(seconds)
        shown = " ".join(f"{each:.1f}" for each in seconds)
        lines.append(f"{side}: {case}: {shown} s, median {median:.1f}, {median / theirs:.2f}")
    return "\n".join(lines)


@contextmanager
def service(config: Path) -> Iterator[None]:
    """This service with a configuration, at ports of its own, once it is ready."""
    port, ops = free_port(), free_port()
    command = [sys.executable, "-m", "service.cli.main", "serve", f"--config={config}"]
    ports = {"LLM_SERVICE_HTTP__PORT": str(port), "LLM_SERVICE_HTTP__OPS_PORT": str(ops)}
    ready = f"http://127.0.0.1:{ops}/readyz"
    with tempfile.NamedTemporaryFile() as file:
        log = Path(file.name)
        with running(command, log, env=os.environ | ports) as process:
            wait_until(lambda: served(ready, process, log), _SECONDS, ready, every=_EVERY)
            yield


def theirs_alone(config: Path) -> AbstractContextManager[Any]:
    """vLLM's own server with the model of a configuration, once it is ready."""
    settings = load_settings(config)
    engine = {key: value for key, value in settings.engine.items() if key != "client"}
    return theirs(settings.base.path, model=Model(settings.base.name, settings.base.path, engine))


def _seconds(server: AbstractContextManager[Any]) -> float:
    started = time.monotonic()
    with server:
        return time.monotonic() - started


def _parser() -> argparse.ArgumentParser:
    parser = command_line("tools.starts", __doc__)
    parser.add_argument(
        "--config", type=Path, default=Path("deploy/local/config.yaml"), help="of this service"
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES, help="default: both")
    parser.add_argument("--rounds", type=int, default=5, help="starts of each server")
    return parser


if __name__ == "__main__":
    main()
